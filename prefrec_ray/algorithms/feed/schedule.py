"""Schedule of a run. Its position is a function of the iteration number, all that a resumed run needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """One iteration: its phase, and its mini-batches [first, first + count)."""

    phase: str  # "pretrain" (mini-batches of preferences) or "train" (mini-batches of transitions)
    first: int
    count: int


@dataclass(frozen=True)
class Schedule:
    """Iterations of a run: passes over the preferences, then updates on transitions."""

    pretrain_batches: int  # mini-batches of preferences, in all
    preference_batches: int  # mini-batches in a pass over the preferences
    updates: int  # on transitions, in all
    updates_per_epoch: int
    updates_per_iteration: int

    @property
    def pretrain_iterations(self) -> int:
        """Return the passes over the preferences; the last one may be a part."""
        return -(-self.pretrain_batches // self.preference_batches)

    @property
    def iterations(self) -> int:
        """Return the length of the run."""
        return self.pretrain_iterations + -(-self.updates // self.updates_per_iteration)

    def at(self, iteration: int) -> Position:
        """Return the position of iteration 0, 1, ...; after the end, training continues with full iterations."""
        if iteration < self.pretrain_iterations:
            first = iteration * self.preference_batches
            return Position("pretrain", first, min(self.preference_batches, self.pretrain_batches - first))
        first = (iteration - self.pretrain_iterations) * self.updates_per_iteration
        left = self.updates - first
        return Position(
            "train", first, min(self.updates_per_iteration, left) if left > 0 else self.updates_per_iteration
        )
