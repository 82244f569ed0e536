"""The truth bench: `python -m benchmarks truth OUTPUT [--worlds NAME ...] [--methods ...] [--seeds ...]`.

For each world (benchmarks/truth/worlds/NAME.yaml, or a YAML of your own): simulated and prepared, all methods of
tune_configs/truth.yaml trained under the recipe `robust`, PrefRec under `paper`, PrefRec on the true satisfaction, and
all policies rolled out. What OUTPUT holds already is not done again: a bench that was stopped goes on. At the end, or
with --table alone, the JSON and a table.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import prefrec
from benchmarks.truth import scores
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.cli.config import open_section
from prefrec_ray.prepare.settings import PrepareSettings
from prefrec_ray.settings import load_yaml

WORLDS = Path(__file__).with_name("worlds")
SWEEP = Path(__file__).parents[2] / "tune_configs" / "truth.yaml"


def main(
    output: Path,
    worlds: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    table: bool = False,
) -> dict[str, Any]:
    """Runs what is missing, then scores everything."""
    changes = {key: value for key, value in (("method", methods), ("task", tasks), ("seeds", seeds)) if value}
    if not table:
        for name in worlds or sorted(file.stem for file in WORLDS.glob("*.yaml")):
            run_world(name, output, changes)
    scored = scores.cells(output)
    print(scores.table(scored))
    return {"cells": scored}


def run_world(name: str, output: Path, changes: dict[str, Any]) -> None:
    """All that one world needs, in OUTPUT/NAME. Raises `UserError`: a file that does not describe a world."""
    file = WORLDS / f"{name}.yaml" if "/" not in name else Path(name)
    for section in ("simulate", "prepare"):
        open_section(str(file), section)
    folder = output / file.stem
    folder.mkdir(parents=True, exist_ok=True)
    sections = load_yaml(str(file))
    sections["prepare"]["source"]["path"] = str(folder / "logs")
    world = folder / "world.yaml"
    world.write_text(yaml.safe_dump(sections, sort_keys=False))
    logs, dataset = folder / "logs", folder / "dataset"
    if not logs.exists() and not dataset.exists():
        prefrec("simulate", str(world), "--output", str(logs))
    if not dataset.exists():
        prefrec("prepare", str(world), "--output", str(dataset))
    for sweep, settings in sweeps(sections, changes).items():
        config = folder / f"{sweep}.yaml"
        config.write_text(yaml.safe_dump({"tune": settings}, sort_keys=False))
        run_sweep(config, folder / sweep, str(dataset))


def sweeps(sections: dict[str, Any], changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sweeps of a world by name: `robust`, `paper`, and `truth` (PrefRec on the true satisfaction)."""
    common = {**yaml.safe_load(SWEEP.read_text())["tune"], **changes}
    preferences = PrepareSettings.model_validate(sections["prepare"]).preferences
    # A recipe names the default teachers by itself.
    named = preferences.teachers if "teachers" in preferences.model_fields_set else ()

    def sweep(recipe: str, method: list[str], **more: Any) -> dict[str, Any]:
        defaults = TrainingSettings.model_validate({"recipe": recipe})
        teachers = [t.name for t in named if (t.pairing, t.scoring) == (defaults.pairing, defaults.scoring)]
        base = {**common["base"], **more, **({"teachers": teachers} if teachers else {})}
        if recipe == "paper":
            base.pop("tau", None)  # Table 1's 0.001, as part of the recipe
        search = search_space(common.get("search", {}), method)
        return {**common, "method": method, "recipe": recipe, "base": base, "search": search}

    return {
        "robust": sweep("robust", common["method"]),
        "paper": sweep("paper", ["PrefRec"]),
        # The satisfaction after an action is its reward already: no look-ahead.
        "truth": sweep("robust", ["PrefRec"], reward_source="column", reward_horizon=1),
    }


def search_space(space: dict[str, Any], methods: list[str]) -> dict[str, Any]:
    """The part of a search space that these methods have."""
    kept = {}
    for key, about in space.items():
        having = [name for name in about.get("methods", methods) if name in methods]
        if having:
            kept[key] = {**about, "methods": having}
    return kept


def run_sweep(config: Path, sweep: Path, dataset: str) -> None:
    """Trains and rolls out one sweep, as far as that is not done yet."""
    if not ended(sweep / "trials.csv"):
        resume = ["--resume"] if (sweep / "sweep.json").exists() else []
        prefrec("tune", str(config), "--dataset", dataset, "--output", str(sweep), *resume)
    if not (sweep / "evaluation.json").exists():
        prefrec("evaluate", str(sweep), "--dataset", dataset, "--online")


def ended(trials: Path) -> bool:
    """Whether the sweep's table exists and no trial in it waits, as one does after an interruption."""
    if not trials.exists():
        return False
    with trials.open() as file:
        return all(row["status"] != "waiting" for row in csv.DictReader(file))
