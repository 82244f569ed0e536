"""Mode `rank`: an annotator orders segments of one user by binary search; the order gives a preference for every pair.

Choi et al. 2024, "Listwise Reward Estimation for Offline Preference-based Reinforcement Learning" (LiRE), section 4.1:
n segments take about n log2 n votes and give n (n - 1) / 2 preferences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations

import numpy as np

from prefrec_ray.annotation.page.board import Board

#: Returns the vote on segments a and b of a list: first (a is better), second, tie, skip, or None if not asked yet.
Said = Callable[[int, int], str | None]


def ordered(size: int, answer_of: Said) -> tuple[list[list[int]], tuple[int, int] | None]:
    """Return groups of equally good segments, the worst first, and the next two to ask about: None if all are placed.

    Segments 0 to `size` - 1 are placed one after another; segments with a skip are excluded.
    """
    groups = [[0]]
    for new in range(1, size):
        low, high = 0, len(groups)
        while low < high:
            middle = (low + high) // 2
            answer = answer_of(new, groups[middle][0])
            if answer is None:
                return groups, (new, groups[middle][0])
            if answer in ("skip", "tie"):
                if answer == "tie":
                    groups[middle].append(new)
                break
            low, high = (middle + 1, high) if answer == "first" else (low, middle)
        else:
            groups.insert(low, [new])
    return groups, None


def implied(groups: list[list[int]]) -> dict[tuple[int, int], str]:
    """Return the label of every two segments a < b of an order: first (a is better), second or tie."""
    place = {segment: number for number, group in enumerate(groups) for segment in group}
    labels = {}
    for a, b in combinations(sorted(place), 2):
        labels[a, b] = "tie" if place[a] == place[b] else "first" if place[a] > place[b] else "second"
    return labels


class Lists:
    """Lists of segments by the pairs of any two, in the order of `itertools.combinations`."""

    def __init__(self, lists: list[list[int]]) -> None:
        self.lists = lists
        # n (n - 1) / 2 pairs are of n segments.
        self.size = (1 + math.isqrt(1 + 8 * len(lists[0]))) // 2
        self._places = list(combinations(range(self.size), 2))

    def ask(self, pairs: list[int], labels: Mapping[int, str]) -> tuple[list[list[int]], int | None]:
        """Return the groups of a list from one annotator's labels of pairs, and the next pair to ask about."""
        groups, following = ordered(self.size, self._said(pairs, labels))
        if following is None:
            return groups, None
        return groups, pairs[self._places.index((min(following), max(following)))]

    def votes(self, labels: Mapping[int, str]) -> dict[int, str]:
        """Return one annotator's labels of pairs, and all labels that follow from them."""
        by_pair = {pair: label for pair, label in labels.items() if label == "skip"}
        for pairs in self.lists:
            if any(pair in labels for pair in pairs):
                by_place = implied(self.ask(pairs, labels)[0])
                by_pair |= {pairs[self._places.index(place)]: label for place, label in by_place.items()}
        return by_pair

    def _said(self, pairs: list[int], labels: Mapping[int, str]) -> Said:
        by_place = {place: labels.get(pair) for place, pair in zip(self._places, pairs, strict=True)}
        other = {"first": "second", "second": "first"}

        def answer_of(a: int, b: int) -> str | None:
            label = by_place[min(a, b), max(a, b)]
            return label if a < b or label is None else other.get(label, label)

        return answer_of


class ListBoard(Board):
    """The next question of annotators who order lists: lists already begun come first, each has at most `votes`
    annotators.

    `said` returns the labels of an annotator by pair.
    """

    def __init__(self, lists: Lists, votes: int, said: Callable[[str], Mapping[int, str]]) -> None:
        super().__init__([pair for pairs in lists.lists for pair in pairs], [], votes, (0.0, 0.0))
        self._lists, self._said = lists, said

    def is_open(self, pair: int, annotator: str, now: float) -> bool:
        """Return True: an annotator may vote on every pair of a list."""
        return True

    @property
    def progress(self) -> tuple[int, int]:
        """Return the numbers of lists begun by `votes` annotators, and of all lists."""
        return sum(len(self._people_of(pairs)) >= self._votes for pairs in self._lists.lists), len(self._lists.lists)

    @property
    def left(self) -> int:
        """Return the largest number of votes until `votes` annotators have ordered every list."""
        most = sum(math.ceil(math.log2(placed + 1)) for placed in range(1, self._lists.size))
        return most * sum(max(0, self._votes - len(self._people_of(pairs))) for pairs in self._lists.lists)

    def next(self, annotator: str, now: float, rng: np.random.Generator) -> tuple[int, bool] | None:
        """Return the next pair of this annotator's list, or of another one; never a repeat."""
        labels = self._said(annotator)
        for pairs in sorted(self._lists.lists, key=lambda pairs: self._rank(self._people_of(pairs), annotator)):
            people = self._people_of(pairs)
            looking = {who for pair in pairs for who, end in self._leases.get(pair, {}).items() if end > now}
            if annotator in people or len(people | looking) < self._votes:
                following = self._lists.ask(pairs, labels)[1]
                if following is not None:
                    return following, False
        return None

    def _people_of(self, pairs: Iterable[int]) -> set[str]:
        return {who for pair in pairs for who in self.voters[pair]}

    @staticmethod
    def _rank(people: set[str], annotator: str) -> int:
        return 0 if annotator in people else 1 if people else 2
