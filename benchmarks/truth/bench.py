"""The truth bench: `python -m benchmarks truth OUTPUT [--worlds NAME ...] [--methods ...] [--seeds ...]`.

For each world (benchmarks/truth/worlds/NAME.yaml, or a YAML of your own): simulated and prepared, all methods of
tune_configs/truth.yaml trained under the recipe `robust`, PrefRec under `paper`, PrefRec on the true satisfaction, and
all policies rolled out. What OUTPUT holds already is not done again: a bench that was stopped goes on. At the end, or
with --table alone, the JSON and a table.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import options, prefrec, write
from benchmarks.truth.scores import cells, table
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.cli.config import open_section
from prefrec_ray.prepare.settings import PrepareSettings
from prefrec_ray.settings import load_yaml

WORLDS = Path(__file__).with_name("worlds")
SWEEP = Path(__file__).parents[2] / "tune_configs" / "truth.yaml"


def main() -> None:
    """Runs what is missing, then scores everything."""
    parser = options(__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--worlds", nargs="+", default=sorted(file.stem for file in WORLDS.glob("*.yaml")))
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--table", action="store_true", help="only score the finished sweeps")
    arguments = parser.parse_args()
    changes = {"method": arguments.methods, "task": arguments.tasks, "seeds": arguments.seeds}
    for name in () if arguments.table else arguments.worlds:
        run_world(name, arguments.output, {key: value for key, value in changes.items() if value})
    scored = cells(arguments.output)
    write(arguments, cells=scored)
    print(table(scored))


def run_world(name: str, output: Path, changes: dict[str, Any]) -> None:
    """All that one world asks for, in OUTPUT/NAME. Raises `UserError`: a file that does not describe a world."""
    file = WORLDS / f"{name}.yaml" if "/" not in name else Path(name)
    for section in ("simulate", "prepare"):
        open_section(str(file), section)
    folder = output / file.stem
    folder.mkdir(parents=True, exist_ok=True)
    sections = load_yaml(str(file))
    sections["prepare"]["source"]["path"] = str(folder / "logs")
    world = folder / "world.yaml"
    world.write_text(yaml.safe_dump(sections, sort_keys=False))
    dataset = folder / "dataset"
    for command, made in (("simulate", folder / "logs"), ("prepare", dataset)):
        if not dataset.exists() and not made.exists():
            prefrec(command, str(world), "--output", str(made))
    for sweep, settings in sweeps(sections, changes).items():
        config = folder / f"{sweep}.yaml"
        config.write_text(yaml.safe_dump({"tune": settings}, sort_keys=False))
        run_sweep(config, folder / sweep, str(dataset))


def sweeps(sections: dict[str, Any], changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sweeps of a world by name: `robust`, `paper`, and `truth` (PrefRec on the true satisfaction)."""
    common = {**yaml.safe_load(SWEEP.read_text())["tune"], **changes}
    alone = {**common, "method": ["PrefRec"]}
    preferences = PrepareSettings.model_validate(sections["prepare"]).preferences
    # A recipe names the default teachers by itself.
    own = preferences.teachers if "teachers" in preferences.model_fields_set else ()

    def on(settings: dict[str, Any], recipe: str, **more: Any) -> dict[str, Any]:
        defaults = TrainingSettings.model_validate({"recipe": recipe})
        kind = defaults.pairing, defaults.scoring
        teachers = [teacher.name for teacher in own if (teacher.pairing, teacher.scoring) == kind]
        base = {**settings["base"], **more, **({"teachers": teachers} if teachers else {})}
        if recipe == "paper":
            base.pop("tau", None)  # Table 1's 0.001, as part of the recipe
        return {
            **settings,
            "recipe": recipe,
            "base": base,
            "search": searched(settings.get("search", {}), settings["method"]),
        }

    # The satisfaction after an action is its reward already: no look-ahead.
    truth = on(alone, "robust", reward_source="column", reward_horizon=1)
    return {"robust": on(common, "robust"), "paper": on(alone, "paper"), "truth": truth}


def searched(search: dict[str, Any], methods: list[str]) -> dict[str, Any]:
    """The part of a search space that concerns `methods`."""
    kept = {}
    for key, space in search.items():
        with_key = [name for name in space.get("methods", methods) if name in methods]
        if with_key:
            kept[key] = {**space, "methods": with_key}
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
