"""Compares estimates from the log with true values, from an evaluation with roll-outs.

    prefrec evaluate POLICY... --dataset DATASET --online --estimators ncis,weights,fqe,dr --output FILE
    python -m benchmarks estimators FILE DATASET

Everything is a gain over the logging policy, of the estimator's own and in truth. The truth is what policies are worth
from logged moments on (moments.py), which is what fitted Q and doubly robust estimate, and in the sessions that start
there, which is what NCIS and weights over items do.
Controls that can be rolled out (behavior cloning, constant action, random items) have true values of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from scipy.stats import spearmanr

from benchmarks.truth.bench import ALL_METHODS
from benchmarks.truth.moments import moment_records
from benchmarks.truth.scores import APART, KINDS, online, ordered, pick
from prefrec_ray import storage
from prefrec_ray.bench.results import markdown
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.results.names import IMITATION, subject_title
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.evaluation.settings import FqeSettings, ValidationSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runtime import start_ray
from prefrec_ray.settings import TASKS

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


def policies(log: Path, task: str) -> list[Line]:
    """kind, folder, true level, and the logging policy's, of the policies of a task in a log of the bench."""
    records = [record for record in online(log / "evaluation.json") if record["kind"] in KINDS]
    return [
        {
            "kind": record["kind"],
            "folder": str(log / record["kind"] / "policies" / Path(record["bundle"]).name),
            "truth": record["value"],
            "behaviour": record["behaviour"],
        }
        for record in pick(records, role="policy", task=task)
    ]


@ray.remote(num_cpus=1)
def _score(scorer: ValidationScorer, folder: str, task: str) -> dict[str, float]:
    return scorer.scores(Policy.load(folder), task)


def compared(scored: list[Line], name: str) -> dict[str, float]:
    """How one estimate orders the policies."""
    truth, score = (np.array([one[key] for one in scored]) for key in ("truth", name))
    robust = np.array([one["kind"] == "robust" for one in scored])
    apart = APART * (truth.max() - scored[0]["behaviour"])
    return {
        "all": float(spearmanr(truth, score).statistic),
        "robust": float(spearmanr(truth[robust], score[robust]).statistic),
        "pairs": float(ordered(truth, score, apart).mean()),
    }


def selection(
    output: Path,
    worlds: Sequence[str] = ALL_METHODS,
    tasks: Sequence[str] = TASKS,
    estimators: Sequence[str] = ("preference", "fqe", "ncis"),
    online: bool = False,
) -> Iterator[dict[str, Any]]:
    """Which estimate that a user can compute ranks policies as the truth does? `python -m benchmarks selection OUTPUT`.

    OUTPUT is that of the truth bench (python -m benchmarks truth OUTPUT). For every task and log of worlds in which all
    methods were trained, policies (eight under `robust`; PrefRec's under the rule `best`, under `paper` and on the true
    satisfaction) are scored on validation users, as trials of a sweep are, and compared with their true levels on test
    users. Spearman's rank correlation over all policies and over those under `robust` alone, and the share of pairs in
    the right order among those that are apart in truth, by a tenth of the way from the logging policy to the best. With
    --online also the true level on validation users: no estimate can do better.
    """
    start_ray()
    rows = []
    for log in [file.parent for world in worlds for file in sorted(output.glob(f"{world}/log*/evaluation.json"))]:
        settings = ValidationSettings(estimators=tuple(estimators), online=online)
        scorer = ValidationScorer.prepare(str((log / "dataset").absolute()), settings, tasks)
        shared = ray.put(scorer)
        for task in tasks:
            scored = policies(log, task)
            scores = ray.get([_score.remote(shared, one["folder"], task) for one in scored])
            for name in [*estimators, *(["online"] if online else [])]:
                for one, score in zip(scored, scores, strict=True):
                    one[name] = score[f"validation/{name}"]
                about = {key: round(value, 2) for key, value in compared(scored, name).items()}
                print(f"{log.parent.name:22} {log.name} {task:10} {name:11} {about}", flush=True)
                rows.append({"world": log.parent.name, "log": log.name, "task": task, "estimate": name, **about})
            yield {"rows": rows}
