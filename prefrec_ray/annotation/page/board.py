"""The next question of each annotator, from all questions and votes in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

#: Smallest number of votes between a question and its repeat.
_APART = 10


@dataclass
class _Person:
    votes: list[tuple[int, bool]] = field(default_factory=list)  # (pair, repeat), in order
    first: set[int] = field(default_factory=set)
    repeated: set[int] = field(default_factory=set)


class Board:
    """Pairs with their votes and leases.

    `labels`: the labels of each pair by annotator, without repeats, in the order in which new pairs are asked.
    `decided`: pairs that need no more votes. `gold`: pairs with a known label, for all annotators. `votes`: maximum
    number of votes on a pair. `share`: shares of questions that are gold pairs, and repeats.
    """

    def __init__(self, pairs: Iterable[int], gold: Iterable[int], votes: int, share: tuple[float, float]) -> None:
        self.labels: dict[int, dict[str, str]] = {pair: {} for pair in pairs}
        self.decided: set[int] = set()
        self._gold = list(gold)
        self._leases: dict[int, dict[str, float]] = {}
        self._people: dict[str, _Person] = {}
        self._votes, (self._gold_share, self._repeat_share) = votes, share

    def voted(self, annotator: str, pair: int, label: str, repeat: bool) -> None:
        """Replace a lease by a vote."""
        self.release(annotator, pair)
        person = self._person(annotator)
        person.votes.append((pair, repeat))
        (person.repeated if repeat else person.first).add(pair)
        if not repeat:
            self.labels[pair][annotator] = label

    def undone(self, annotator: str, pair: int, repeat: bool) -> None:
        """Take back the annotator's last vote."""
        person = self._person(annotator)
        person.votes.pop()
        (person.repeated if repeat else person.first).remove(pair)
        if not repeat:
            del self.labels[pair][annotator]
            self.decided.discard(pair)

    def leased(self, annotator: str, pair: int, expires: float) -> None:
        """Record that the annotator has the pair on screen."""
        self._leases.setdefault(pair, {})[annotator] = expires

    def release(self, annotator: str, pair: int) -> None:
        """End the annotator's lease of the pair."""
        self._leases.get(pair, {}).pop(annotator, None)

    def is_open(self, pair: int, annotator: str, now: float) -> bool:
        """Return whether a vote of this annotator on the pair is useful."""
        if pair in self.decided or annotator in self.labels[pair]:
            return False
        leases = self._leases.get(pair, {})
        looking = sum(end > now for who, end in leases.items() if who != annotator)
        return len(self.labels[pair]) + looking < self._votes

    @property
    def left(self) -> int:
        """Return the largest number of votes until every pair is decided."""
        return sum(max(0, self._votes - len(by)) for pair, by in self.labels.items() if pair not in self.decided)

    def count(self, annotator: str) -> int:
        """Return the number of votes of this annotator."""
        return len(self._person(annotator).votes)

    def next(self, annotator: str, now: float, rng: np.random.Generator) -> tuple[int, bool] | None:
        """Return the next pair, and a flag for repeats; None if no question is left for this annotator.

        Pairs with votes come before new ones, so that pairs get several votes.
        """
        person = self._person(annotator)
        if rng.random() < self._gold_share:
            unseen = [pair for pair in self._gold if pair not in person.first]
            if unseen:
                return unseen[rng.integers(len(unseen))], False
        if rng.random() < self._repeat_share:
            old = [pair for pair, repeat in person.votes[:-_APART] if not repeat and pair not in person.repeated]
            if old:
                return old[rng.integers(len(old))], True
        fresh = None
        for pair, labels in self.labels.items():
            if self.is_open(pair, annotator, now):
                if labels or self._leases.get(pair):
                    return pair, False
                fresh = pair if fresh is None else fresh
        return None if fresh is None else (fresh, False)

    def _person(self, annotator: str) -> _Person:
        return self._people.setdefault(annotator, _Person())
