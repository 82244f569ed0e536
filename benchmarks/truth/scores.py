"""Scores of the truth bench: (value - logging policy) / (best known - logging policy), and the items served.

Values are true levels. Best known is the better of the hand-made policy that knows the truth and PrefRec trained on the
true satisfaction, on the same log. Intervals are over logs: Student's t of the means of log 0, log 1, ...
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from prefrec_ray.bench.results import interval, markdown
from prefrec_ray.settings import TASKS

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


def less(cells: list[Cell], method: str) -> str:
    """PrefRec's score less that of `method` under the same reward and serving rule, and its interval over logs.

    The value of a log is the mean over tasks and worlds in which both methods were trained.
    """
    robust = pick(cells, kind="robust")
    shared = {(cell["world"], cell["log"], cell["task"]) for cell in pick(robust, method=method)}
    both = [cell for cell in robust if (cell["world"], cell["log"], cell["task"]) in shared]
    ours, theirs = (by_log(pick(both, method=name)) for name in ("PrefRec", method))
    return "" if method == "PrefRec" else interval([ours[log] - theirs[log] for log in ours], "+.2f")


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


def differ(cell: Cell) -> bool:
    """Whether users of the cell's world differ in what is good for them from the start."""
    return bool(cell["world"].startswith("differing") or cell["world"] == "all_at_once")


def table(cells: list[Cell]) -> str:
    """PrefRec by world, then also by task; all methods. In Markdown."""
    prefrec = pick(cells, method="PrefRec")
    kinds = {kind: pick(prefrec, kind=kind) for kind in COLUMNS}
    worlds = sorted({cell["world"] for cell in cells})
    rows = [[world, *(mean(pick(own, world=world)) for own in kinds.values())] for world in worlds]
    rows.append(["cells below the logging policy", *map(below, kinds.values())])
    served = [mean([cell for cell in own if differ(cell)], "served") for own in kinds.values()]
    if any(served):
        rows.append(["share of the catalogue served, where users differ", *served])
    by_world = []
    for world, task in product(worlds, TASKS):
        own = [pick(kind, world=world, task=task) for kind in kinds.values()]
        if any(own):
            by_world.append([world, task, *map(mean, own), below(own[0]), mean(own[0], "served")])
    titles = list(COLUMNS.values())
    return "\n\n".join(
        [
            markdown(["PrefRec: mean score over three tasks", *titles], rows),
            markdown(["world", "task", *titles, "`robust`: below", "served"], by_world),
            methods(cells),
        ]
    )


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
        rows.append([method, *scores, below(own), mean(own, "served"), less(robust, method)])
    return markdown(["method (`robust`)", *worlds, "below", "served", "PrefRec less it"], rows) if rows else ""
