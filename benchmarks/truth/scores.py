"""Scores of the truth bench: (value - logging policy) / (best known - logging policy), and the items served.

Values are true levels. Best known is the better of the hand-made policy that knows the truth and PrefRec trained on the
true satisfaction (its mean over seeds).
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from benchmarks.harness import markdown
from prefrec_ray.evaluation.intervals import bootstrap_interval
from prefrec_ray.terms import TASKS

Cell = dict[str, Any]


RECIPES = ("robust", "paper", "truth")


def online(file: Path) -> list[Cell]:
    """The roll-outs of an evaluation of the bench."""
    return [record for record in json.loads(file.read_text())["records"] if record["estimator"] == "online"]


def cells(output: Path) -> list[Cell]:
    """A cell for each (world, task, method, recipe, seed) of the worlds in `output` whose sweeps are all rolled out.

    score; value (true level); items (distinct items served, as a share of the logging policy's); distance (mean
    distance of an action to its nearest item, in units of behavior cloning's). Recipes are robust, paper and truth.
    """
    result: list[Cell] = []
    for folder in sorted(path for path in output.iterdir() if path.is_dir()):
        if all((folder / name / "evaluation.json").exists() for name in RECIPES):
            result += _world_cells(folder)
    return result


def _world_cells(folder: Path) -> list[Cell]:
    result: list[Cell] = []
    for recipe in RECIPES:
        file = folder / recipe / "evaluation.json"
        served = json.loads(file.read_text())["served"]
        for record in pick(online(file), role="policy"):
            mine = served[record["subject"]]
            result.append(
                {
                    "world": folder.name,
                    "recipe": recipe,
                    "seed": record["provenance"]["seed"],
                    **{key: record[key] for key in ("task", "method", "value", "behaviour")},
                    "items": mine["distinct_items"] / served["behaviour"]["distinct_items"],
                    "distance": mine["item_distance"] / served["imitation"]["item_distance"],
                }
            )
    by_hand = pick(online(folder / "robust" / "evaluation.json"), subject="nutrition")
    for cell in result:
        learned = [c["value"] for c in pick(result, recipe="truth", task=cell["task"])]
        (known,) = pick(by_hand, task=cell["task"])
        best = max(known["value"], float(np.mean(learned)))
        cell["score"] = (cell["value"] - cell["behaviour"]) / (best - cell["behaviour"])
    return result


def mean(cells: list[Cell], name: str = "score") -> str:
    """Mean over worlds, and its 95 % interval over seeds (each seed's mean over worlds and tasks is one number)."""
    seeds = sorted({cell["seed"] for cell in cells})
    by_seed = np.array([np.mean([cell[name] for cell in cells if cell["seed"] == seed]) for seed in seeds])
    if len(by_seed) < 2:
        return "".join(f"{value:.2f}" for value in by_seed)
    low, high = bootstrap_interval(by_seed[:, None], seed=0)
    return f"{by_seed.mean():.2f} [{low[0]:.2f}, {high[0]:.2f}]"


def less(cells: list[Cell], method: str) -> str:
    """PrefRec's score less that of `method` under the same reward: the mean, and its 95 % interval over seeds (t).

    The value of a seed is the mean over tasks and worlds in which both methods were trained.
    """
    worlds = {cell["world"] for cell in pick(cells, method=method)}
    robust = [cell for cell in pick(cells, recipe="robust") if cell["world"] in worlds]
    seeds = sorted({cell["seed"] for cell in pick(robust, method=method)})
    if method == "PrefRec" or len(seeds) < 2:
        return ""
    ours, theirs = (
        np.array([np.mean([cell["score"] for cell in pick(robust, method=name, seed=seed)]) for seed in seeds])
        for name in ("PrefRec", method)
    )
    difference = ours - theirs
    half = stdtrit(len(seeds) - 1, 0.975) * difference.std(ddof=1) / np.sqrt(len(seeds))
    return f"{difference.mean():+.2f} [{difference.mean() - half:+.2f}, {difference.mean() + half:+.2f}]"


def pick(cells: list[Cell], **values: Any) -> list[Cell]:
    """The cells (or records) with these values."""
    return [cell for cell in cells if all(cell[key] == value for key, value in values.items())]


def table(cells: list[Cell]) -> str:
    """Scores by world and task of PrefRec; means of all methods; shares of cells won. In Markdown."""
    prefrec = pick(cells, method="PrefRec")
    by_world = []
    for world, task in product(sorted({cell["world"] for cell in cells}), TASKS):
        own = {recipe: pick(prefrec, world=world, task=task, recipe=recipe) for recipe in RECIPES}
        if own["robust"]:
            served = [mean(own["robust"], name) for name in ("items", "distance")]
            by_world.append([world, task, *map(mean, own.values()), *served])
    robust = pick(cells, recipe="robust")
    by_method = []
    for method in dict.fromkeys(cell["method"] for cell in robust):
        own_cells = pick(robust, method=method)
        differing = [cell for cell in own_cells if cell["world"].startswith("differing")]
        means = [mean(pick(own_cells, task=task)) for task in TASKS]
        by_method.append([method, *means, mean(differing), less(cells, method)])
    wins = [f"above {other}: {share:.0%} of {count} cells" for other, (share, count) in won(cells).items()]
    return "\n\n".join(
        [
            markdown(["world", "task", "robust", "paper", "true reward", "items", "distance"], by_world),
            markdown(["method (robust)", *TASKS, "users differ", "PrefRec less it"], by_method),
            "; ".join(wins),
        ]
    )


def won(cells: list[Cell]) -> dict[str, tuple[float, int]]:
    """In how many cells (world, task, seed) robust PrefRec is above the logging policy, IL and the `paper` one."""

    def values(recipe: str, method: str, key: str = "value") -> dict[tuple[Any, ...], float]:
        return {(c["world"], c["task"], c["seed"]): c[key] for c in pick(cells, recipe=recipe, method=method)}

    mine = values("robust", "PrefRec")
    rivals = {
        "logging policy": values("robust", "PrefRec", "behaviour"),
        "IL": values("robust", "IL"),
        "paper": values("paper", "PrefRec"),
    }
    both = {name: [mine[key] > other[key] for key in mine.keys() & other.keys()] for name, other in rivals.items()}
    return {name: (float(np.mean(above)), len(above)) for name, above in both.items() if above}
