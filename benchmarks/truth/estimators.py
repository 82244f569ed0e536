"""Compares estimates from the log with true values, from an evaluation with roll-outs.

    prefrec evaluate POLICY... --dataset DATASET --online --estimators ncis,weights,fqe,dr --output FILE
    python -m benchmarks estimators FILE DATASET

Everything is a gain over the logging policy, of the estimator's own and in truth. The truth is what policies are worth
from logged moments on (moments.py), which is what fitted Q and doubly robust estimate, and in the sessions that start
there, which is what NCIS and weights over items do.
Controls that can be rolled out (behavior cloning, constant action, random items) have true values of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.truth.moments import moment_records
from benchmarks.truth.scores import pick
from prefrec_ray import storage
from prefrec_ray.bench.results import markdown
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.results.names import IMITATION, subject_title
from prefrec_ray.evaluation.settings import FqeSettings
from prefrec_ray.runtime import start_ray

Line = dict[str, Any]
Lines = dict[str, Line]  # by subject
AGREEMENT = (
    "",
    "rank correlation",
    "mean error of the gain",
    "mean absolute error",
    "true gain in the interval, in-data",
)
#: Of each truth by logged moments: the discount from one session to the next, and who estimates that.
TRUTHS: dict[str, tuple[float, tuple[str, ...]]] = {
    "moments": (FqeSettings().gamma_session, ("ncis", "fqe", "dr")),
    "one session": (0.0, ("ncis", "weights")),
}
#: Methods whose actions stay where items are.
IN_DATA = ("IL", "IQL", "TD3_BC", "BCQ", IMITATION)


def main(evaluation: Path, dataset: Path) -> dict[str, Any]:
    """Prints both tables for each task and truth."""
    start_ray()
    content, opened = storage.read_json(str(evaluation)), PreparedDataset.open(storage.absolute(str(dataset)))
    records = content["records"]
    for name, (gamma, _) in TRUTHS.items():
        records += moment_records(content, opened, gamma, name)
    for task in dict.fromkeys(record["task"] for record in records):
        for name, (_, estimators) in TRUTHS.items():
            truth, *lines = (
                {r["subject"]: r for r in pick(records, task=task, estimator=one)} for one in (name, *estimators)
            )
            known = {one: of for one, of in zip(estimators, lines, strict=True) if of}
            print(f"\n### {task}, {name}\n\n{gains(known, truth)}\n\n{markdown(AGREEMENT, agreement(known, truth))}")
    return {"records": records}


def gains(known: dict[str, Lines], truth: Lines) -> str:
    """A row a subject with a true value, best first: gains with their 95 % intervals."""
    rows = []
    for subject, line in sorted(truth.items(), key=lambda pair: -pair[1]["value"]):
        estimates = [_gain_text(lines.get(subject)) for lines in known.values()]
        if any(estimates):
            rows.append([subject_title(subject), _gain_text(line), *estimates])
    return markdown(["", "true gain", *known], rows)


def agreement(known: dict[str, Lines], truth: Lines) -> Iterator[list[str]]:
    """A row an estimator, of what AGREEMENT names."""
    for name, lines in known.items():
        policies = [subject for subject, line in lines.items() if line["role"] == "policy" and subject in truth]
        ours, theirs = (np.array([gain(kind[subject]) for subject in policies]) for kind in (lines, truth))
        error = ours - theirs
        inside = [s for s in lines if s in truth and lines[s]["method"] in IN_DATA and lines[s]["role"] != "placebo"]
        covered = [lines[s]["gain_ci_low"] <= gain(truth[s]) <= lines[s]["gain_ci_high"] for s in inside]
        yield [
            name,
            f"{spearmanr(ours, theirs).statistic:.2f}",
            f"{error.mean():+.2f}",
            f"{np.abs(error).mean():.2f}",
            f"{sum(covered)} of {len(covered)}",
        ]


def gain(record: Line) -> float:
    """Value over the logging policy's."""
    return float(record["value"] - record["behaviour"])


def _gain_text(record: Line | None) -> str:
    if record is None:
        return ""
    return f"{gain(record):+.2f} [{record['gain_ci_low']:+.2f}, {record['gain_ci_high']:+.2f}]"
