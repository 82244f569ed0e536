"""Shares of kinds of items in the impressions of users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.ids import codes
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import Kind
from prefrec_ray.serving.experiment.history import Events
from prefrec_ray.serving.experiment.outcomes import Behavior, UserOutcome
from prefrec_ray.serving.experiment.sequences import Interval, largest_mean_interval


@dataclass(frozen=True)
class ItemShares:
    """Share of each value of one kind in the impressions of each participant.

    Entries [m], one for each participant and value with an impression. Items that have no value, or are not in the
    table, count only in `impressions`.
    """

    kind: Kind

    participant: np.ndarray  # int64 [m], ascending
    code: np.ndarray  # int64 [m]
    share: np.ndarray  # float64 [m]
    impressions: np.ndarray  # int64 [P], of each participant
    unknown: np.ndarray  # int64 [P]: of these, impressions of items without a value

    @classmethod
    def from_impressions(cls, events: Events, seen: Behavior, items: ItemTable, name: str) -> ItemShares:
        """Return the shares of the kind `name` of `items`, which are found by their ids."""
        kind = items.kind(name)
        ids = events.impressions.item
        row = items.find(ids.unique().to_numpy(zero_copy_only=False))[codes(ids)[seen.row]]
        code = np.where(row >= 0, kind.codes[row], -1).astype(np.int64)
        known, users = code >= 0, len(seen.first_return.hours)
        impressions = np.bincount(seen.participant, minlength=users)
        unknown = np.bincount(seen.participant[~known], minlength=users)
        pairs, count = np.unique(np.stack([seen.participant[known], code[known]]), axis=1, return_counts=True)
        return cls(kind, pairs[0], pairs[1], count / impressions[pairs[0]], impressions, unknown)

    def of_value(self, value: str) -> UserOutcome:
        """Return the share of one value per participant, NaN without impressions."""
        values = np.where(self.impressions > 0, 0.0, np.nan)
        mine = self.code == self.kind.find(value)
        values[self.participant[mine]] = self.share[mine]
        return UserOutcome(values, (0.0, 1.0))

    def note(self, mask: np.ndarray) -> str:
        """Return the number of impressions of items without a value as text, empty if it is 0, for participants in
        `mask` (bool [P])."""
        unknown, impressions = int(self.unknown[mask].sum()), int(self.impressions[mask].sum())
        if not unknown:
            return ""
        return f"{unknown:,} of {impressions:,} impressions are of items without {self.kind.names.name}"

    def largest(self, mask: np.ndarray, alpha: float) -> tuple[float, Interval, int]:
        """Return the largest mean share over participants in `mask` (bool [P]), its interval, and their number."""
        counted = mask & (self.impressions > 0)
        users = int(counted.sum())
        mine = counted[self.participant]
        user = (np.cumsum(counted) - 1)[self.participant[mine]]
        code, share = self.code[mine], self.share[mine]
        value = float(np.bincount(code, share).max() / users) if len(share) else float("nan")
        return value, largest_mean_interval(user, code, share, users, alpha), users
