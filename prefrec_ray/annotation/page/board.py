"""The next question of each annotator, from all questions and votes in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

#: Smallest number of votes between a question and its repeat.
_APART = 10


@dataclass
class _Person:
    answers: list[tuple[int, bool]] = field(default_factory=list)  # (pair, repeat), in order
    first: set[int] = field(default_factory=set)
    repeated: set[int] = field(default_factory=set)


class Board:
    """Pairs with their votes and leases.

    `order`: the pairs, most informative first. `decided`: pairs that need no more votes. `gold`: pairs with a known
    label, for all annotators.
    """

    def __init__(self, pairs: Iterable[int], gold: Iterable[int], votes: int, share: tuple[float, float]) -> None:
        self.order = list(pairs)
        self.gold = list(gold)
        self.decided: set[int] = set()
        self.voters: dict[int, set[str]] = {pair: set() for pair in self.order}
        self._leases: dict[int, dict[str, float]] = {}
        self._people: dict[str, _Person] = {}
        self._votes, (self._gold_share, self._repeat_share) = votes, share

    def answered(self, annotator: str, pair: int, repeat: bool) -> None:
        """Replace a lease by a vote."""
        self.release(annotator, pair)
        person = self._person(annotator)
        person.answers.append((pair, repeat))
        (person.repeated if repeat else person.first).add(pair)
        if not repeat:
            self.voters[pair].add(annotator)

    def undone(self, annotator: str, pair: int, repeat: bool) -> None:
        """Take back the annotator's last vote."""
        person = self._person(annotator)
        person.answers.pop()
        (person.repeated if repeat else person.first).remove(pair)
        if not repeat:
            self.voters[pair].remove(annotator)
            self.decided.discard(pair)

    def leased(self, annotator: str, pair: int, expires: float) -> None:
        """Record that the annotator has the pair on screen."""
        self._leases.setdefault(pair, {})[annotator] = expires

    def release(self, annotator: str, pair: int) -> None:
        """End the annotator's lease of the pair."""
        self._leases.get(pair, {}).pop(annotator, None)

    def is_open(self, pair: int, annotator: str, now: float) -> bool:
        """Return whether a vote of this annotator on the pair is useful."""
        if pair in self.decided or annotator in self.voters[pair]:
            return False
        leases = self._leases.get(pair)
        looking = sum(end > now for who, end in leases.items() if who != annotator) if leases else 0
        return len(self.voters[pair]) + looking < self._votes

    @property
    def progress(self) -> tuple[int, int]:
        """Return the numbers of decided pairs and of all pairs."""
        return len(self.decided), len(self.order)

    @property
    def left(self) -> int:
        """Return the largest number of votes until every pair is decided."""
        return sum(max(0, self._votes - len(self.voters[pair])) for pair in self.order if pair not in self.decided)

    def count(self, annotator: str) -> int:
        """Return the number of votes of this annotator."""
        return len(self._person(annotator).answers)

    def next(self, annotator: str, now: float, rng: np.random.Generator) -> tuple[int, bool] | None:
        """Return the next pair, and a flag for repeats; None if no question is left for this annotator.

        Pairs with votes come before new ones, so that pairs get several votes.
        """
        person = self._person(annotator)
        if rng.random() < self._gold_share:
            unseen = [pair for pair in self.gold if pair not in person.first]
            if unseen:
                return unseen[rng.integers(len(unseen))], False
        if rng.random() < self._repeat_share:
            old = [pair for pair, repeat in person.answers[:-_APART] if not repeat and pair not in person.repeated]
            if old:
                return old[rng.integers(len(old))], True
        fresh = None
        for pair in self.order:
            if self.is_open(pair, annotator, now):
                if self.voters[pair] or self._leases.get(pair):
                    return pair, False
                fresh = pair if fresh is None else fresh
        return None if fresh is None else (fresh, False)

    def _person(self, annotator: str) -> _Person:
        return self._people.setdefault(annotator, _Person())
