"""Compares estimates from the log with true values, from an evaluation with roll-outs.

    prefrec evaluate POLICY... --dataset DATASET --online --estimators ncis,fqe,dr --output FILE
    python -m benchmarks estimators FILE [--dataset DATASET]

All values are gains over the logging policy. With DATASET the true value is the level from logged moments on
(moments.py), which is what fitted Q and doubly robust estimate. Without, it comes from roll-outs that start with users'
first requests: new histories, in which the level of the logging policy is not the logged mean. Controls that can be
rolled out (behavior cloning, constant action, random items) have true values too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.harness import options, write
from benchmarks.truth.moments import moment_records
from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.calibration import placebo_bias
from prefrec_ray.evaluation.records import Record
from prefrec_ray.runtime import start_ray

Line = dict[str, Any]
ESTIMATORS = ("ncis", "fqe", "dr")
#: Methods whose actions stay where items are.
IN_DATA = ("IL", "IQL", "TD3_BC", "BCQ", "imitation")


def main() -> None:
    """Prints both tables for each task."""
    parser = options(__doc__)
    parser.add_argument("evaluation", help="what `prefrec evaluate --online` wrote")
    parser.add_argument("--dataset", help="play its log again up to logged moments")
    arguments = parser.parse_args()
    evaluation = storage.read_json(arguments.evaluation)
    records = evaluation["records"]
    if arguments.dataset:
        start_ray()
        records += moment_records(evaluation, PreparedDataset.open(storage.absolute(arguments.dataset)))
    write(arguments, records=records)
    for task in dict.fromkeys(record["task"] for record in records):
        by = {
            name: {r["subject"]: r for r in records if (r["task"], r["estimator"]) == (task, name)}
            for name in ("online", "moments", *ESTIMATORS)
        }
        by["truth"] = by["moments"] or by["online"]
        print(f"\n### {task}\n")
        print("\n".join(gains(by)))
        print()
        print("\n".join(agreement(by)))


def gains(by: dict[str, dict[str, Line]]) -> list[str]:
    """A row a subject with a true value, best first: gains with their 95 % intervals."""
    known = [name for name in ESTIMATORS if by[name]]
    rows = [f"| | true gain | {' | '.join(known)} |", f"|---|{'---|' * (len(known) + 1)}"]
    for subject, truth in sorted(by["truth"].items(), key=lambda pair: -pair[1]["value"]):
        if any(subject in by[name] for name in known):
            cells = [_gain_text(by[name][subject]) if subject in by[name] else "" for name in known]
            rows.append(f"| {subject} | {_gain_text(truth)} | {' | '.join(cells)} |")
    return rows


def agreement(by: dict[str, dict[str, Line]]) -> list[str]:
    """A row an estimator: rank correlation, error, coverage, placebos."""
    rows = [
        "| | rank correlation | mean error of the gain | mean absolute error | true gain in the interval, in-data | "
        "negative controls, half-widths from the logging policy | half-widths from their true gain |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (name for name in ESTIMATORS if by[name]):
        lines, truth = by[name], by["truth"]
        policies = [subject for subject, line in lines.items() if line["role"] == "policy" and subject in truth]
        error = np.array([gain(lines[subject]) - gain(truth[subject]) for subject in policies])
        ours, theirs = ([gain(kind[subject]) for subject in policies] for kind in (lines, truth))
        rank = float(spearmanr(ours, theirs).statistic)
        inside = [s for s in lines if s in truth and lines[s]["method"] in IN_DATA and lines[s]["role"] != "placebo"]
        covered = [lines[s]["gain_ci_low"] <= gain(truth[s]) <= lines[s]["gain_ci_high"] for s in inside]
        bias = ", ".join(
            f"{subject} {value:+.1f}"
            for subject, value in placebo_bias([Record.model_validate(line) for line in lines.values()]).items()
        )
        true_bias = ", ".join(
            f"{s} {(gain(lines[s]) - gain(truth[s])) / (0.5 * (lines[s]['ci_high'] - lines[s]['ci_low'])):+.1f}"
            for s in ("constant action", "random items")
        )
        figures = f"{rank:.2f} | {error.mean():+.2f} | {np.abs(error).mean():.2f} | {sum(covered)} of {len(covered)}"
        rows.append(f"| {name} | {figures} | {bias} | {true_bias} |")
    return rows


def gain(record: Line) -> float:
    """Value minus that of the logging policy."""
    return float(record["value"] - record["behaviour"])


def _gain_text(record: Line) -> str:
    return f"{gain(record):+.2f} [{record['gain_ci_low']:+.2f}, {record['gain_ci_high']:+.2f}]"
