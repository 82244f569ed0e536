"""Scores of the truth bench: (value - logging policy) / (best known - logging policy), and the items served.

Values are true levels. Best known is the better of the hand-made policy that knows the truth and PrefRec trained on the
true satisfaction, on the same log. Intervals are over logs: Student's t of the means of log 0, log 1, ...
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from prefrec_ray.bench.results import interval, markdown

Cell = dict[str, Any]

#: Folders of a log that hold policies.
KINDS = ("robust", "best", "truth", "paper")
#: Those of every world, as columns: `best` is `robust` under another serving rule, `truth` is on the true reward.
COLUMNS = {"robust": "`robust`", "best": "`robust`, rule `best`", "truth": "true reward"}
#: Controls with the true law that serve the best items.
BEST = ("nutrition", "best known")
#: Share of the best gain: policies nearer to each other are no pair.
APART = 0.1


def online(file: Path) -> list[Cell]:
    """The roll-outs of an evaluation of the bench, each with the `kind` of what was rolled out (None: a control)."""
    records = json.loads(file.read_text())["records"]
    return [
        # .../KIND/policies/TRIAL
        {**record, "kind": Path(record["bundle"]).parts[-3] if record.get("bundle") else None}
        for record in records
        if record["estimator"] == "online"
    ]


def cells(output: Path) -> list[Cell]:
    """A cell for each (world, log, kind, method, task) of the logs in `output` that are rolled out.

    score; value and behaviour (true levels); served (distinct items at up to 20,000 requests of test users, as a share
    of the catalogue).
    """
    files = sorted(output.glob("*/log*/evaluation.json"))
    return [cell for file in files for cell in _log_cells(file)]


def _log_cells(file: Path) -> list[Cell]:
    records, served = online(file), json.loads(file.read_text())["served"]
    items = yaml.safe_load(file.with_name("world.yaml").read_text())["simulate"]["items"]
    best = {
        task: max(r["value"] for r in pick(records, task=task) if r["subject"] in BEST or r["kind"] == "truth")
        for task in {record["task"] for record in records}
    }
    return [
        {
            "world": file.parents[1].name,
            "log": file.parent.name,
            **{key: record[key] for key in ("kind", "method", "task", "value", "behaviour")},
            "score": (record["value"] - record["behaviour"]) / (best[record["task"]] - record["behaviour"]),
            "served": served[record["subject"]]["distinct_items"] / items,
        }
        for record in pick(records, role="policy")
    ]


def by_log(cells: list[Cell], name: str = "score") -> dict[str, float]:
    """The mean of each log over its cells: log 0 of all worlds, log 1, ..."""
    logs = sorted({cell["log"] for cell in cells})
    return {log: float(np.mean([cell[name] for cell in pick(cells, log=log)])) for log in logs}


def mean(cells: list[Cell], name: str = "score") -> str:
    """Mean over worlds and tasks, and its interval over logs."""
    return interval(list(by_log(cells, name).values()))


def below(cells: list[Cell]) -> str:
    """How many cells are below the logging policy."""
    return f"{sum(cell['value'] < cell['behaviour'] for cell in cells)} of {len(cells)}" if cells else ""


def ordered(truth: np.ndarray, estimate: np.ndarray, apart: float) -> np.ndarray:
    """Return for each pair of policies that are more than `apart` apart in truth if the estimates order it alike."""
    a, b = np.triu_indices(len(truth), 1)
    right = np.sign(truth[a] - truth[b]) == np.sign(estimate[a] - estimate[b])
    return right[np.abs(truth[a] - truth[b]) > apart]


def pick(cells: list[Cell], **values: Any) -> list[Cell]:
    """The cells (or records) with these values."""
    return [cell for cell in cells if all(cell[key] == value for key, value in values.items())]


def table(cells: list[Cell]) -> str:
    """PrefRec by world, and all methods. In Markdown."""
    prefrec = pick(cells, method="PrefRec")
    kinds = {kind: pick(prefrec, kind=kind) for kind in COLUMNS}
    rows = []
    for world in sorted({cell["world"] for cell in cells}):
        own = [pick(kind, world=world) for kind in kinds.values()]
        rows.append([world, *map(mean, own), mean(own[0], "served")])
    rows.append(["cells below the logging policy", *map(below, kinds.values()), ""])
    columns = ["PrefRec: mean score over three tasks", *COLUMNS.values(), "catalogue served"]
    return f"{markdown(columns, rows)}\n\n{methods(cells)}"


def methods(cells: list[Cell]) -> str:
    """All methods under `robust`, and PrefRec under `paper`, in the worlds where these were trained. In Markdown."""
    paper = [{**cell, "kind": "robust", "method": "PrefRec, `paper`"} for cell in pick(cells, kind="paper")]
    robust = pick(cells, kind="robust") + paper
    worlds = sorted({cell["world"] for cell in robust if cell["method"] != "PrefRec"})
    shared = [cell for cell in robust if cell["world"] in worlds]
    rows = []
    for method in sorted({cell["method"] for cell in shared}, key=lambda name: (name != "PrefRec", name)):
        own = pick(shared, method=method)
        scores = [mean(pick(own, world=world)) for world in worlds]
        rows.append([method, *scores, below(own)])
    return markdown(["method (`robust`)", *worlds, "below"], rows) if rows else ""
