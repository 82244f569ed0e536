"""Worlds of the bench: the sections `simulate` and `prepare` of each, and of each of its logs."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.settings import load_yaml, parse, read_yaml
from prefrec_ray.simulator.law import SimulatedWorld
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import load_world

#: Sections of every world, and the changes of each world.
SECTIONS = read_yaml(files("prefrec_ray.bench").joinpath("worlds.yaml").read_text("utf-8"), "worlds.yaml")
WORLDS: dict[str, dict[str, Any]] = SECTIONS.pop("worlds")
PUBLIC: dict[str, dict[str, Any]] = SECTIONS.pop("public")
#: Worlds with laws of their own. Defaults and methods may be chosen on the first half, never on the second.
DEVELOPMENT = ("topics", "creators", "budget", "wearout", "daytime", "overload", "departing")
VALIDATION = ("contagion", "regimes", "variety", "habit", "peak_end", "recharging", "bubble")


def sections_of(name: str) -> dict[str, Any]:
    """Return `simulate` and `prepare` of a world of the bench, of a plug-in, or of the YAML file at the path `name`.

    Raises `UserError`: a file that describes no world.
    """
    if is_file(name):
        sections = load_yaml(name)
        for section, model in (("simulate", SimulateSettings), ("prepare", PrepareSettings)):
            if section not in sections:
                raise UserError(f"{name}: section '{section}' is missing; expected simulate and prepare")
            parse(model, sections[section], f"{name}: {section}")
        return sections
    changes, prepare = dict(WORLDS.get(name, {"world": name})), SECTIONS["prepare"]
    preferences = {**prepare["preferences"], **changes.pop("preferences", {})}
    return {"simulate": {**SECTIONS["simulate"], **changes}, "prepare": {**prepare, "preferences": preferences}}


def public_sections(name: str) -> dict[str, Any]:
    """Return `sections_of` a world at the size of the public bench; a YAML file has a size of its own."""
    sections = sections_of(name)
    if is_file(name):
        return sections
    prepare = {**sections["prepare"], **PUBLIC["prepare"], "preferences": PUBLIC["preferences"]}
    return {"simulate": {**sections["simulate"], **PUBLIC["simulate"]}, "prepare": prepare}


def is_file(name: str) -> bool:
    """Return True for the path of a YAML file."""
    return name.endswith((".yaml", ".yml"))


def world_of(name: str, **changes: Any) -> SimulatedWorld:
    """Return a world of the bench with `changes` of its settings."""
    return load_world(SimulateSettings.model_validate({**sections_of(name)["simulate"], **changes}))


def one_log(sections: dict[str, Any], log: int, logs: str) -> dict[str, Any]:
    """Return the sections for log number `log` in the folder `logs`, with seeds of its own for the world and pairs."""
    simulate, prepare = sections["simulate"], sections["prepare"]
    return {
        **sections,
        "simulate": {**simulate, "seed": (simulate.get("seed", 0) + log) % 2**32},
        "prepare": {**prepare, "source": {**prepare["source"], "path": logs}, "seed": log},
    }
