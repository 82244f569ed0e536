"""Effects of a policy in the users' own units: hours until a user comes back, items per session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.results.case import Case
from prefrec_ray.settings import Split

HOUR_MS = 3_600_000.0
#: Longer times are in days.
DAYS_FROM = 72.0


@dataclass(frozen=True)
class Effect:
    """A measure under a policy: `key` names the field of the record; the interval is None in files without one."""

    key: str
    value: float
    interval: tuple[float, float] | None
    logged: float

    @property
    def sentence(self) -> str:
        """Return the effect as a sentence, next to the logging policy."""
        opening = "Users come back after" if self.key == "mean_revisit_hours" else "A session has"
        between = "" if self.interval is None else f" (95 % interval {in_unit(self.key, *self.interval)})"
        return f"{opening} {in_unit(self.key, self.value)}{between} instead of {in_unit(self.key, self.logged)}."


@dataclass(frozen=True)
class LoggedMeans:
    """Means over users of the split in the log itself; None if no user has a second session."""

    mean_revisit_hours: float | None
    mean_depth: float

    def __str__(self) -> str:
        items = f"a session has {in_unit('mean_depth', self.mean_depth)}"
        if self.mean_revisit_hours is None:
            return items
        return f"users come back after {in_unit('mean_revisit_hours', self.mean_revisit_hours)} and {items}"


def effects(case: Case) -> list[Effect]:
    """Return hours and items of the policy's estimate; nothing without a converged estimate by a model of users."""
    record, logging = case.record, case.logging
    if record is None or logging is None or not case.converged:
        return []
    found = []
    for key in ("mean_revisit_hours", "mean_depth"):
        value, logged = getattr(record, key), getattr(logging, key)
        if value is not None and logged is not None:
            found.append(Effect(key, value, getattr(record, f"{key}_ci"), logged))
    return found


def in_unit(key: str, *values: float) -> str:
    """Return one value, or the two ends of an interval, with the unit."""
    if key == "mean_depth":
        return f"{' to '.join(f'{value:,.1f}' for value in values)} items"
    days = max(values) >= DAYS_FROM
    return f"{' to '.join(f'{value / (24 if days else 1):,.1f}' for value in values)} {'days' if days else 'h'}"


def logged_means(uri: str, split: Split) -> LoggedMeans | None:
    """Return the means of the log over the users of a split, read file by file; None for a split without sessions.

    Raises `UserError` if the data set is missing.
    """
    dataset = PreparedDataset.open(uri)
    hours: list[np.ndarray] = []
    depth: list[np.ndarray] = []
    for file in dataset.files("sessions"):
        table = dataset.read(file, ["user_id", "depth", "revisit_ms", "split"])
        table = table.filter(pc.equal(table["split"], split))
        means = table.group_by("user_id").aggregate([("revisit_ms", "mean"), ("depth", "mean")])
        hours.append(means["revisit_ms_mean"].drop_null().to_numpy() / HOUR_MS)
        depth.append(means["depth_mean"].to_numpy())
    if not sum(map(len, depth)):
        return None
    known = np.concatenate(hours)
    return LoggedMeans(float(known.mean()) if len(known) else None, float(np.concatenate(depth).mean()))


def sentences(found: Sequence[Effect]) -> str:
    """Return the effects as sentences."""
    return " ".join(effect.sentence for effect in found)
