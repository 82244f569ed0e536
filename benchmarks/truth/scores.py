"""Scores of the truth bench: (value - logging policy) / (best known - logging policy), and the items served.

Values are true levels. Best known is the better of the hand-made policy that knows the truth and PrefRec trained on the
true satisfaction (its mean over seeds).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from prefrec_ray.evaluation.intervals import bootstrap_interval
from prefrec_ray.terms import TASKS

Cell = dict[str, Any]


def cells(output: Path) -> list[Cell]:
    """A cell for each (world, task, method, recipe, seed) of the worlds in `output` whose sweeps are all rolled out.

    score; value (true level); items (distinct items served, relative to the logging policy); distance (mean distance
    of an action to its nearest item, as a multiple of behavior cloning's). Recipes are robust, paper and truth.
    """
    scored: list[Cell] = []
    for folder in sorted(path for path in output.iterdir() if path.is_dir()):
        files = {name: folder / name / "evaluation.json" for name in ("robust", "paper", "truth")}
        if all(file.exists() for file in files.values()):
            loaded = {name: json.loads(file.read_text()) for name, file in files.items()}
            scored += _world_cells(folder.name, loaded)
    return scored


def _world_cells(world: str, evaluations: dict[str, dict[str, Any]]) -> list[Cell]:
    scored: list[Cell] = []
    for recipe, evaluation in evaluations.items():
        served = evaluation["served"]
        for record in evaluation["records"]:
            if record["estimator"] != "online" or record["role"] != "policy":
                continue
            mine = served[record["subject"]]
            scored.append(
                {
                    "world": world,
                    "task": record["task"],
                    "method": record["method"],
                    "recipe": recipe,
                    "seed": record["provenance"]["seed"],
                    "value": record["value"],
                    "behaviour": record["behaviour"],
                    "items": mine["distinct_items"] / served["behaviour"]["distinct_items"],
                    "distance": mine["item_distance"] / served["imitation"]["item_distance"],
                }
            )
    known = {
        record["task"]: record["value"]
        for record in evaluations["robust"]["records"]
        if record["estimator"] == "online" and record["subject"] == "nutrition"
    }
    for cell in scored:
        learned = [c["value"] for c in scored if c["recipe"] == "truth" and c["task"] == cell["task"]]
        best = max(known[cell["task"]], float(np.mean(learned)))
        cell["score"] = (cell["value"] - cell["behaviour"]) / (best - cell["behaviour"])
    return scored


def mean(scored: list[Cell], name: str = "score") -> str:
    """Mean over worlds, and its 95 % interval over seeds (each seed's mean over worlds and tasks is one number)."""
    seeds = sorted({cell["seed"] for cell in scored})
    by_seed = np.array([np.mean([cell[name] for cell in scored if cell["seed"] == seed]) for seed in seeds])
    if len(by_seed) < 2:
        return "".join(f"{value:.2f}" for value in by_seed)
    low, high = bootstrap_interval(by_seed[:, None], seed=0)
    return f"{by_seed.mean():.2f} [{low[0]:.2f}, {high[0]:.2f}]"


def less(scored: list[Cell], method: str) -> str:
    """PrefRec's score minus that of `method` with the same reward: the mean and its 95 % interval over seeds (t).

    The value of a seed is the mean over tasks and worlds in which both methods were trained.
    """
    worlds = {cell["world"] for cell in scored if cell["method"] == method}
    robust = [cell for cell in pick(scored, recipe="robust") if cell["world"] in worlds]
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


def pick(scored: list[Cell], **values: Any) -> list[Cell]:
    """The cells with these values."""
    return [cell for cell in scored if all(cell[key] == value for key, value in values.items())]


def table(scored: list[Cell]) -> str:
    """Scores by world and task of PrefRec; means of all methods; shares of cells won. In Markdown."""
    lines = ["| world | task | robust | paper | true reward | items | distance |", "|---|---|---|---|---|---|---|"]
    prefrec = pick(scored, method="PrefRec")
    for world in sorted({cell["world"] for cell in scored}):
        for task in TASKS:
            by = {
                recipe: pick(prefrec, world=world, task=task, recipe=recipe) for recipe in ("robust", "paper", "truth")
            }
            if by["robust"]:
                scores = " | ".join(mean(by[recipe]) for recipe in by)
                served = f"{mean(by['robust'], 'items')} | {mean(by['robust'], 'distance')}"
                lines.append(f"| {world} | {task} | {scores} | {served} |")
    heads = ["method (robust)", *TASKS, "users differ", "PrefRec less it"]
    lines += ["", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    robust = pick(scored, recipe="robust")
    for method in dict.fromkeys(cell["method"] for cell in robust):
        own = pick(robust, method=method)
        differing = [cell for cell in own if cell["world"].startswith("differing")]
        means = [mean(pick(own, task=task)) for task in TASKS] + [mean(differing), less(scored, method)]
        lines.append(f"| {method} | " + " | ".join(means) + " |")
    wins = won(scored)
    lines += ["", "; ".join(f"above {other}: {share:.0%} of {count} cells" for other, (share, count) in wins.items())]
    return "\n".join(lines)


def won(scored: list[Cell]) -> dict[str, tuple[float, int]]:
    """Share of cells (world, task, seed) in which robust PrefRec beats the logging policy, IL and PrefRec `paper`."""
    rivals = {"IL": pick(scored, method="IL", recipe="robust"), "paper": pick(scored, method="PrefRec", recipe="paper")}
    mine = pick(scored, method="PrefRec", recipe="robust")
    result = {"behaviour": (float(np.mean([cell["score"] > 0 for cell in mine])), len(mine))} if mine else {}
    for name, others in rivals.items():
        value = {(c["world"], c["task"], c["seed"]): c["value"] for c in others}
        pairs = [
            (cell["value"], value[key])
            for cell in mine
            if (key := (cell["world"], cell["task"], cell["seed"])) in value
        ]
        if pairs:
            result[name] = (float(np.mean([a > b for a, b in pairs])), len(pairs))
    return result
