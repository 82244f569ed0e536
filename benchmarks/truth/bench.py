"""The truth bench: `python -m benchmarks truth OUTPUT [--worlds NAME ...] [--methods ...] [--logs ...]`.

For each world (of prefrec_ray/bench, of a plug-in, or a YAML of your own) and each of its logs, in OUTPUT/NAME/logN:
simulated and prepared; PrefRec trained under the recipe `robust` and on the true satisfaction, in some worlds beside
all methods of tune_configs/truth.yaml and `paper`; and all policies rolled out, PrefRec's also with the serving rule
`best`. A log has users, items, preferences and a training seed of its own. What OUTPUT holds already is not done
again: a bench that was stopped goes on. At the end, or with --table alone, the JSON and a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import prefrec, rows_in
from benchmarks.truth import scores
from prefrec_ray.bench.worlds import WORLDS, one_log, sections_of
from prefrec_ray.policy import Policy
from prefrec_ray.preferences import PreferenceSettings

SWEEP = Path(__file__).parents[2] / "tune_configs" / "truth.yaml"
#: Where all methods are trained, and `paper`: users differ in both, and the second has most rules.
ALL_METHODS = ("differing_changing", "all_at_once")
#: Training seed of the first log; smaller ones were used to choose the recipe.
FIRST_SEED = 10

#: Training on the true satisfaction, without look-ahead: the satisfaction after an action is its reward already.
ON_SATISFACTION = {"reward_source": "column", "reward_horizon": 1}
#: The true satisfaction teaches the same policy for every task: it is trained for this one.
TRUTH_TASK = "frequency"


def main(
    output: Path,
    worlds: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    logs: Sequence[int] = (0, 1, 2),
    table: bool = False,
) -> dict[str, Any]:
    """Runs what is missing, then scores everything."""
    if not table:
        # All worlds once before any is run again: what a bench that was stopped has done is of use.
        for log, name in product(logs, worlds or WORLDS):
            changes = {"method": methods} if methods else {}
            run_log(name, log, output, changes, full=bool(methods) or name in ALL_METHODS)
    scored = scores.cells(output)
    print(scores.table(scored))
    return {"cells": scored}


def prepared(name: str, log: int, folder: Path, page: int = 1, **sections: Any) -> tuple[Path, Path]:
    """Simulate and prepare one log of a world, as far as `folder` lacks it. Return world.yaml and the data set.

    page: number of items of a page. sections: further sections of world.yaml. Raises `UserError` like `sections_of`.
    """
    world, logs, dataset = folder / "world.yaml", folder / "logs", folder / "dataset"
    content = {**one_log(sections_of(name), log, str(logs)), **sections}
    content["simulate"] = {**content["simulate"], "page": page}
    preferences = PreferenceSettings(**content["prepare"]["preferences"])
    # Pairs of segments of about the same number of items.
    steps = {"length": preferences.length // page, "min_requests": preferences.min_requests // page}
    content["prepare"] = {**content["prepare"], "preferences": {**content["prepare"]["preferences"], **steps}}
    folder.mkdir(parents=True, exist_ok=True)
    world.write_text(yaml.safe_dump(content, sort_keys=False))
    if not logs.exists() and not dataset.exists():
        prefrec("simulate", str(world), "--output", str(logs))
    if not dataset.exists():
        prefrec("prepare", str(world), "--output", str(dataset))
    return world, dataset


def run_log(name: str, log: int, output: Path, changes: dict[str, Any], full: bool) -> None:
    """Make all policies of one log of a world, in OUTPUT/NAME/logN; `full`: with all methods and `paper`."""
    folder = output / Path(name).stem / f"log{log}"
    _, dataset = prepared(name, log, folder)
    planned = sweeps({**changes, "seeds": [FIRST_SEED + log]}, full)
    for sweep, settings in planned.items():
        config = folder / f"{sweep}.yaml"
        config.write_text(yaml.safe_dump({"tune": settings}, sort_keys=False))
        run_sweep(config, folder / sweep, str(dataset))
    copy_policies(folder, planned["robust"]["task"])
    evaluation = folder / "evaluation.json"
    if not evaluation.exists():
        bundles = [str(path) for kind in scores.KINDS for path in sorted((folder / kind / "policies").glob("*"))]
        prefrec("evaluate", *bundles, "--dataset", str(dataset), "--online", "--output", str(evaluation))


def sweeps(changes: dict[str, Any], full: bool) -> dict[str, dict[str, Any]]:
    """The sweeps of a world by name: `robust`, `truth` (PrefRec on the true satisfaction) and, if `full`, `paper`."""
    common = {**yaml.safe_load(SWEEP.read_text())["tune"], **changes}

    def sweep(recipe: str, method: list[str], **more: Any) -> dict[str, Any]:
        base = {**common["base"], **more}
        if recipe == "paper":
            base.pop("tau", None)  # Table 1's 0.001, as part of the recipe
        search = search_space(common.get("search", {}), method)
        return {**common, "method": method, "recipe": recipe, "base": base, "search": search}

    truth = sweep("robust", ["PrefRec"], **ON_SATISFACTION)
    planned = {
        "robust": sweep("robust", common["method"] if full else ["PrefRec"]),
        "truth": {**truth, "task": [TRUTH_TASK]},
    }
    return {**planned, "paper": sweep("paper", ["PrefRec"])} if full else planned


def search_space(space: dict[str, Any], methods: list[str]) -> dict[str, Any]:
    """The part of a search space that these methods have."""
    kept = {}
    for key, about in space.items():
        having = [name for name in about.get("methods", methods) if name in methods]
        if having:
            kept[key] = {**about, "methods": having}
    return kept


def run_sweep(config: Path, sweep: Path, dataset: str) -> None:
    """Trains one sweep, as far as that is not done yet."""
    if not ended(sweep / "trials.csv"):
        resume = ["--resume"] if (sweep / "sweep.json").exists() else []
        prefrec("tune", str(config), "--dataset", dataset, "--output", str(sweep), *resume)


def ended(trials: Path) -> bool:
    """Whether the sweep's table exists and no trial in it waits, as one does after an interruption."""
    return trials.exists() and all(row["status"] != "waiting" for row in rows_in(trials))


def copy_policies(folder: Path, tasks: Sequence[str]) -> None:
    """What needs no training of its own, as far as not there yet.

    `best`: PrefRec's networks of `robust` under that serving rule. `truth`: its policy once for each of `tasks`.
    """
    for bundle in (folder / "robust" / "policies").glob("PrefRec_*"):
        save_new(Policy.load(str(bundle)).under(rule="best"), folder / "best" / "policies" / bundle.name)
    (bundle,) = (folder / "truth" / "policies").glob(f"PrefRec_{TRUTH_TASK}_*")
    policy = Policy.load(str(bundle))
    for task in tasks:
        for_task = replace(policy, provenance={**policy.provenance, "task": task})
        save_new(for_task, bundle.with_name(bundle.name.replace(TRUTH_TASK, task)))


def save_new(policy: Policy, bundle: Path) -> None:
    """Saves a policy, unless it is there."""
    if not bundle.exists():
        bundle.parent.mkdir(parents=True, exist_ok=True)
        policy.save(str(bundle))
