"""Content of the admin page: progress and agreement of the team, and numbers of each annotator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefrec_ray.annotation.agreement import krippendorff_alpha
from prefrec_ray.annotation.page.desk import Desk
from prefrec_ray.annotation.page.store import Vote


@dataclass(frozen=True)
class Person:
    """An annotator. gold: numbers of right votes and of all; repeats: numbers of equal votes and of all.

    reliability: by Dawid and Skene's model; None without votes. seconds: median. expires: since
    1970.
    """

    name: str
    votes: int
    skips: int
    gold: tuple[int, int]
    repeats: tuple[int, int]
    reliability: float | None
    seconds: float | None
    expires: float


@dataclass(frozen=True)
class Summary:
    """The team. progress: as of the board."""

    progress: tuple[int, int]
    votes: int
    left: int
    alpha: float | None
    people: Sequence[Person]


def summary(desk: Desk) -> Summary:
    """Return the state of the team's work."""
    votes = desk.store.votes()
    judged = [vote for vote in votes if vote.label != "skip" and not vote.repeat]
    alpha = krippendorff_alpha(np.array([v.pair for v in judged]), np.array([v.label for v in judged], str))
    gold = {pair: label for pair, _, label in desk.pairs if label is not None}
    people = [
        _person(desk, name, expires, [v for v in votes if v.annotator == name], gold)
        for name, expires in desk.store.people().items()
    ]
    return Summary(desk.board.progress, len(judged), desk.left, alpha, people)


def _person(desk: Desk, name: str, expires: float, votes: list[Vote], gold: dict[int, str]) -> Person:
    first = {vote.pair: vote.label for vote in votes if not vote.repeat}
    again = [first[vote.pair] == vote.label for vote in votes if vote.repeat]
    right = [gold[pair] == label for pair, label in first.items() if pair in gold]
    skips = sum(label == "skip" for label in first.values())
    return Person(
        name,
        len(first) - skips,
        skips,
        (sum(right), len(right)),
        (sum(again), len(again)),
        desk.scores.reliability.get(name),
        float(np.median([vote.seconds for vote in votes])) if votes else None,
        expires,
    )
