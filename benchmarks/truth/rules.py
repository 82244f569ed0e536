"""What trained policies are worth under other serving rules: in truth, and as validation would score them.

    python -m benchmarks rules OUTPUT [--worlds tiring ...] [--tasks frequency depth] [--users 120] [--requests 250]

OUTPUT is that of `python -m benchmarks truth`. PrefRec's policies of each log are rolled out under the rules of GRID,
in the simulator with test users and in a model of users with validation users; no training is done. Score:
(level - logging policy) / (nutrition - logging policy). OUTPUT/rules.csv has a row per policy and rule, and what is in
it already is not done again.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import ray

from benchmarks.harness import markdown
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.model_score import fit_score
from prefrec_ray.evaluation.online import RollOut, evaluate_online
from prefrec_ray.policy import Policy
from prefrec_ray.runtime import start_ray
from prefrec_ray.terms import Task

TEMPERATURES, VARIETIES = (0.1, 0.2, 0.3, 0.5), (2.5, 5.0, 10.0)
GRID = list(product(TEMPERATURES, VARIETIES))
Row = dict[str, Any]


def main(
    output: Path,
    worlds: Sequence[str] | None = None,
    tasks: Sequence[str] = ("frequency", "depth"),
    users: int = 120,
    requests: int = 250,
) -> dict[str, Any]:
    """Scores what is missing, then prints the mean score of each rule, and of the rule that validation would choose."""
    start_ray()
    file = output / "rules.csv"
    rows: list[Row] = list(csv.DictReader(file.open())) if file.exists() else []
    for folder in sorted(output.glob("*/log*")):
        if worlds and folder.parent.name not in worlds:
            continue
        done = {row["task"] for row in rows if (row["world"], row["log"]) == (folder.parent.name, folder.name)}
        missing = [task for task in tasks if task not in done]
        if missing and (folder / "evaluation.json").exists():  # a log that the bench has done
            rows += of_log(folder, missing, RollOut(users=users, requests=requests))
        with file.open("w") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows))
    return {"rows": rows}


def of_log(folder: Path, tasks: Sequence[Any], how: RollOut) -> Iterator[Row]:
    """A row per task and rule of one log."""
    data = PreparedDataset.open(str(folder / "dataset"))
    validation = ray.get(fit_score(data.uri, "validation"))
    for task in tasks:
        (bundle,) = (folder / "robust" / "policies").glob(f"PrefRec_{task}_*")
        policy = Policy.load(str(bundle))
        rules = {
            f"{t:g} {v:g}": replace(policy, serving=policy.serving.model_copy(update={"temperature": t, "variety": v}))
            for t, v in GRID
        }
        yield from scored(data, rules, task, how, folder, validation)


def scored(
    data: PreparedDataset, rules: dict[str, Policy], task: Task, how: RollOut, folder: Path, validation: Any
) -> Iterator[Row]:
    """A row per rule: the true score, and the score on validation users."""
    records = [record for record in evaluate_online(data, rules, how=how) if record.task == task]
    level = {record.subject: record.value for record in records}
    for name, policy in rules.items():
        behaviour = records[0].behaviour
        yield {
            "world": folder.parent.name,
            "log": folder.name,
            "task": task,
            "temperature": policy.serving.temperature,
            "variety": policy.serving.variety,
            "score": round((level[name] - behaviour) / (level["nutrition"] - behaviour), 4),
            "validation": round(validation(policy, task), 4),
        }


def table(rows: Sequence[Row]) -> str:
    """By temperature and variety the mean score over all policies, and the smallest."""
    policies: dict[tuple[str, ...], dict[tuple[float, float], Row]] = {}
    for row in rows:
        rule = float(row["temperature"]), float(row["variety"])
        policies.setdefault((row["world"], row["log"], row["task"]), {})[rule] = row

    def cell(scores: list[float]) -> str:
        return f"{mean(scores):.2f} ({min(scores):+.2f})"

    lines = [
        [f"{t:g}", *(cell([float(one[t, v]["score"]) for one in policies.values()]) for v in VARIETIES)]
        for t in TEMPERATURES
    ]
    chosen = [max(one.values(), key=lambda row: float(row["validation"]))["score"] for one in policies.values()]
    title = (
        f"{len(policies)} policies; the rule that validation scores best: {cell([float(score) for score in chosen])}"
    )
    return title + "\n" + markdown(("temperature", *(f"variety {v:g}" for v in VARIETIES)), lines)
