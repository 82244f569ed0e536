"""Where a run is: a pure function of its iteration number, so that a resumed run needs no other memory of its place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """One iteration: its phase, and the half-open range of mini-batches [first, first + count) that it takes."""

    phase: str  # "pretrain" (mini-batches of preferences) or "train" (mini-batches of transitions)
    first: int
    count: int


@dataclass(frozen=True)
class Schedule:
    """Iterations of a run: `pretrain_batches` of preferences, a pass each, then the updates on transitions."""

    pretrain_batches: int  # of preferences, in all
    preference_batches: int  # mini-batches in a pass over the preferences
    updates: int  # on transitions, in all
    updates_per_epoch: int
    updates_per_iteration: int

    @property
    def pretrain_iterations(self) -> int:
        """Passes over the preferences, the last one maybe a part."""
        return -(-self.pretrain_batches // self.preference_batches)

    @property
    def iterations(self) -> int:
        """Length of the whole run."""
        return self.pretrain_iterations + -(-self.updates // self.updates_per_iteration)

    def at(self, iteration: int) -> Position:
        """The position of iteration 0, 1, ...; past the end training goes on at the same pace."""
        if iteration < self.pretrain_iterations:
            first = iteration * self.preference_batches
            return Position("pretrain", first, min(self.preference_batches, self.pretrain_batches - first))
        first = (iteration - self.pretrain_iterations) * self.updates_per_iteration
        left = self.updates - first
        return Position(
            "train", first, min(self.updates_per_iteration, left) if left > 0 else self.updates_per_iteration
        )
