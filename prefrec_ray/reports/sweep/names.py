"""Short names of a sweep's settings: the method, the recipe and the keys in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefrec_ray.reports.sweep.load import Setting, Sweep


def labels(sweep: Sweep) -> dict[Setting, str]:
    """Return a name for each setting with a finished trial; settings with drawn values are named by their trials."""
    settings = sweep.chosen
    if not is_drawn(sweep):
        return names(settings)
    first = {setting: next(t.name for t in sweep.finished if t.setting == setting) for setting in settings}
    method = method_names([setting.method for setting in settings])
    several = len(method) > 1
    return {s: f"{method[s.method] if several else ''} #{first[s].rpartition('_')[2]}".strip() for s in settings}


def is_drawn(sweep: Sweep) -> bool:
    """Return whether a key of the sweep is drawn at random; else all are grids."""
    return any(space.kind != "grid" for space in sweep.settings.search.values())


def names(settings: Sequence[Setting]) -> dict[Setting, str]:
    """Return a name for each setting: method and recipe if they differ, then its keys; the method if nothing else."""
    method = method_names([setting.method for setting in settings])
    recipes = {setting.recipe for setting in settings}
    by_setting = {}
    for setting in settings:
        keys = keys_text(setting)
        name = method[setting.method] if len(method) > 1 or not keys else ""
        by_setting[setting] = " ".join(filter(None, (name, setting.recipe if len(recipes) > 1 else "", keys)))
    return by_setting


def method_names(methods: Sequence[str]) -> dict[str, str]:
    """Return a name by method: the class of `module:Class`, or all of it if two classes have the same name."""
    unique = dict.fromkeys(methods)
    short = [method.rpartition(":")[2] for method in unique]
    return {m: name if short.count(name) == 1 else m for m, name in zip(unique, short, strict=True)}


def keys_text(setting: Setting) -> str:
    """Return the searched keys of a setting and their values."""
    return ", ".join(f"{key}={short(value)}" for key, value in setting.keys)


def short(value: Any) -> str:
    """Format a value, with three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
