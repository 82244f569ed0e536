"""What a trained policy is worth under other serving rules, where the truth is known.

    python -m benchmarks rules DATASET POLICY [--users 180] [--requests 300]

Rolls the policy out under each rule of RULES, with the same users. Score: (value - logging policy) / (nutrition -
logging policy). Nothing is trained again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import markdown
from benchmarks.truth.scores import pick
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.online import RollOut, evaluate_online
from prefrec_ray.policy import Policy
from prefrec_ray.runtime import start_ray
from prefrec_ray.terms import TASKS

RULES: dict[str, dict[str, Any]] = {
    "largest Q of the 64 nearest": {"rule": "best", "candidates": "nearest", "variety": 0.0},
    **{
        f"sample, {temperature}, variety {variety:g}": {"temperature": temperature, "variety": variety}
        for variety in (0.0, 5.0, 10.0)
        for temperature in (0.25, 0.5, 0.75, 1.0)
    },
}


def main(dataset: Path, policy: Path, users: int = 180, requests: int = 300) -> dict[str, Any]:
    """Prints the scores of all tasks."""
    start_ray()
    trained = Policy.load(str(policy))
    rules = {name: replace(trained, serving=type(trained.serving)(**rule)) for name, rule in RULES.items()}
    how = RollOut(users=users, requests=requests)
    records = [record.model_dump() for record in evaluate_online(PreparedDataset.open(str(dataset)), rules, how=how)]
    rows = []
    for name in rules:
        scores = []
        for task in TASKS:
            value = {r["subject"]: r["value"] for r in pick(records, task=task)}
            scores.append((value[name] - value["behaviour"]) / (value["nutrition"] - value["behaviour"]))
        rows.append([name, *(f"{score:.2f}" for score in scores)])
    print(markdown(("serving rule", *TASKS), rows))
    return {"records": records}
