"""Short names of a sweep's settings: what tells them apart, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefrec_ray.reports.sweep.load import Setting, Sweep

#: The two switches of Fig. 9, whose combinations have names of their own.
SWITCHES = {"pretrain_epochs", "finetune_reward"}


def labels(sweep: Sweep) -> dict[Setting, str]:
    """A name for each setting with a finished trial. Drawn numbers make no names: a search has those of its trials."""
    settings = sweep.chosen
    if not is_drawn(sweep):
        return names(settings)
    first = {setting: next(t.name for t in sweep.finished if t.setting == setting) for setting in settings}
    several = len({setting.method for setting in settings}) > 1
    return {s: f"{s.method if several else ''} #{first[s].rpartition('_')[2]}".strip() for s in settings}


def is_drawn(sweep: Sweep) -> bool:
    """Whether a key of the sweep is drawn, rather than all of a grid."""
    return any(space.kind != "grid" for space in sweep.settings.search.values())


def names(settings: Sequence[Setting]) -> dict[Setting, str]:
    """A name for each: method and recipe where they differ (the method too where nothing else does), then its keys."""
    methods, recipes = ({getattr(setting, key) for setting in settings} for key in ("method", "recipe"))
    switches = _are_switches(settings)
    by_setting = {}
    for setting in settings:
        keys = switch_name(dict(setting.keys)) if switches else keys_text(setting)
        parts = [setting.method if len(methods) > 1 or not keys else "", setting.recipe if len(recipes) > 1 else ""]
        by_setting[setting] = " ".join(part for part in (*parts, keys) if part)
    return by_setting


def keys_text(setting: Setting) -> str:
    """Its searched keys and their values."""
    return ", ".join(f"{key}={short(value)}" for key, value in setting.keys)


def switch_name(keys: dict[str, Any]) -> str:
    """The name of a combination of pre-training and fine-tuning of the reward (Fig. 9)."""
    pretrained, tuned = bool(keys["pretrain_epochs"]), bool(keys["finetune_reward"])
    if pretrained:
        return "full" if tuned else "no fine-tuning"
    return "no pre-training" if tuned else "neither"


def short(value: Any) -> str:
    """A value for a reader: three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _are_switches(settings: Sequence[Setting]) -> bool:
    """Whether the sweep is one over the two switches, each on or off: two lengths of pre-training have no names."""
    keys = [dict(setting.keys) for setting in settings]
    if any(set(one) != SWITCHES for one in keys):
        return False
    return len({one["pretrain_epochs"] for one in keys if one["pretrain_epochs"]}) <= 1
