"""What `prefrec evaluate` says of policies whose truth is known: `python -m benchmarks verdicts OUTPUT`.

OUTPUT is that of the truth bench, which evaluates and rolls out all policies of a log (methods, recipes and serving
rules). Estimate, support and verdict are held against true levels. Cells are (policy, task) of a log.

True gains are twofold: over the logging policy rolled out anew (`gain`), which counts for a verdict, and over the
logged items shown again (`over_logged`), which is what the estimate is over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.truth.scores import APART, online, ordered, pick
from prefrec_ray.bench.results import markdown
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.online import levels_of_logged_items
from prefrec_ray.evaluation.results.names import CONSTANT, RANDOM_ITEMS
from prefrec_ray.settings import Task

#: In levels: a policy this much above the logging policy is worth an A/B test.
WORTH = 0.3


def main(output: Path) -> dict[str, Any]:
    """Prints the figures of all cells."""
    all_cells = []
    for file in sorted(output.glob("*/log*/evaluation.json")):
        dataset = PreparedDataset.open(str(file.with_name("dataset")))
        all_cells += cells(file, levels_of_logged_items(dataset))
    print(markdown(("", "", "cells"), [[what, str(value), str(count)] for what, value, count in figures(all_cells)]))
    return {"cells": all_cells}


def cells(file: Path, again: Mapping[Task, float]) -> list[dict[str, Any]]:
    """A cell a (policy, task), and of the controls that know nothing: true and estimated gains, support, verdict.

    `again`: by task the true level under the logged items.
    """
    evaluation = json.loads(file.read_text())
    by_model = {(r["subject"], r["task"]): r for r in evaluation["records"] if r["estimator"] == "model"}
    log_cells: list[dict[str, Any]] = []
    for record in online(file):
        subject = record["subject"]
        if record["role"] == "policy" or subject in (CONSTANT, RANDOM_ITEMS):
            estimate = by_model.get((subject, record["task"]))
            cell = {
                "world": file.parts[-3],
                "log": file.parts[-2],
                **{key: record[key] for key in ("kind", "method", "task", "role", "subject")},
                "gain": record["value"] - record["behaviour"],
                "over_logged": record["value"] - again[record["task"]],
                "support": evaluation["support"].get(subject, {}).get("states"),
                "verdict": evaluation["verdicts"].get(subject, {}).get("verdict"),
            }
            log_cells.append(cell if estimate is None else cell | _estimated(estimate))
    return log_cells


def _estimated(record: dict[str, Any]) -> dict[str, float]:
    gain = record["value"] - record["behaviour"]
    return {"estimate": gain, "low": record["gain_ci_low"], "high": record["gain_ci_high"]}


def figures(all_cells: list[dict[str, Any]]) -> Iterator[tuple[str, str | int, int]]:
    """Rows: what, value, how many cells."""
    policies = pick(all_cells, role="policy")
    candidates = [cell for cell in policies if cell["verdict"] == "candidate"]
    given = [cell for cell in policies if "estimate" in cell]
    worth = [cell for cell in given if cell["gain"] >= WORTH]
    below = [cell for cell in policies if cell["gain"] < 0]
    yield "called candidates though below the logging policy", sum(c["gain"] < 0 for c in candidates), len(below)
    yield f"{WORTH} levels above, with support: called candidates", _share([c in candidates for c in worth]), len(worth)
    held = [c["low"] <= c["over_logged"] <= c["high"] for c in given]
    yield "intervals that hold the true gain over the logged items", _share(held), len(given)
    yield "half-width, median, levels", _median([(c["high"] - c["low"]) / 2 for c in given]), len(given)
    errors = [c["estimate"] - c["over_logged"] for c in given]
    yield "error of the gain, mean, levels", _mean(errors), len(given)
    yield "error of the gain, mean absolute, levels", _mean([abs(error) for error in errors]), len(given)
    for name in (RANDOM_ITEMS, CONSTANT):
        control = [c for c in pick(all_cells, subject=name) if "estimate" in c]
        halves = [(c["estimate"] - c["over_logged"]) / ((c["high"] - c["low"]) / 2) for c in control]
        yield f"{name}: half-widths from the true gain, mean", _mean(halves), len(control)
    groups = [
        [cell for cell in given if (cell["world"], cell["log"], cell["task"]) == key]
        for key in dict.fromkeys((cell["world"], cell["log"], cell["task"]) for cell in given)
    ]
    right = [pair for group in groups for pair in pairs(group)]
    yield f"pairs that differ by {APART} of the best gain: in the right order", _share(right), len(right)


def pairs(group: list[dict[str, Any]]) -> list[bool]:
    """Whether each pair that is apart in truth has the same order in estimates."""
    gains, estimates = (np.array([cell[key] for cell in group]) for key in ("gain", "estimate"))
    return ordered(gains, estimates, APART * gains.max()).tolist()


def _share(values: list[bool]) -> str:
    return f"{np.mean(values):.0%}" if values else ""


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" if values else ""


def _median(values: list[float]) -> str:
    return f"{np.median(values):.2f}" if values else ""
