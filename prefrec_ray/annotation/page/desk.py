"""Questions and votes of a store, without HTTP, and the section `label` of a YAML."""

from __future__ import annotations

import hmac
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from prefrec_ray.annotation.aggregate import Votes, VoteScores
from prefrec_ray.annotation.page.store import Label, Store, Vote, labels_of
from prefrec_ray.errors import UserError
from prefrec_ray.preferences import PairCount
from prefrec_ray.settings import Count, Pairing, Seed, Settings, parse

#: Settings that are fixed when the store is made.
DRAWN = ("pairs", "held_out", "pairing", "length", "seed", "gold")
#: Smallest number of votes between a question and its repeat.
_APART = 10
#: Seconds for which a pair on an annotator's screen is reserved.
_RESERVED = 900.0

Share = Annotated[float, Field(ge=0, le=0.5)]


class LabelSettings(Settings):
    """The section `label`. `DRAWN` are fixed when the store is made; the others may change at every start."""

    pairs: PairCount = Field(default=1000, description="candidate pairs")
    held_out: Annotated[float, Field(ge=0, le=0.9)] = Field(
        default=0.1, description="share of pairs of validation users"
    )
    pairing: Pairing = Field(default="within_user", description="segments of one user, or of two")
    length: Count | None = Field(default=None, description="impressions in a segment; null: as in the data set")
    seed: Seed = Field(default=0, description="seed of pairs and sides")
    gold: Share = Field(default=0.1, description="share of questions with a clear label of the scripted teacher")
    repeats: Share = Field(default=0.05, description="share of questions asked again, with sides exchanged")
    votes: Annotated[int, Field(ge=1, le=1000)] = Field(default=5, description="maximum number of votes on a pair")
    posterior: Annotated[float, Field(gt=0.5, le=1)] = Field(
        default=0.95, description="probability of the likeliest label at which a pair is decided"
    )
    invitation_days: Annotated[float, Field(gt=0, le=366)] = Field(
        default=14.0, description="lifetime of an invitation and its session"
    )
    guidelines: str | None = Field(default=None, description="Markdown file, shown next to the question")
    items: str | None = Field(default=None, description="CSV or Parquet file: item_id, title, picture")


class Stale(Exception):
    """The vote belongs to an earlier question of this annotator."""


@dataclass(frozen=True)
class Question:
    """A pair on an annotator's screen, reserved until `expires`. `flipped`: its second segment is on the left (A)."""

    token: str
    pair: int
    repeat: bool
    flipped: bool
    expires: float


class Desk:
    """An opened store. Raises `UserError` if it was made with other settings, or is damaged.

    `clock`: seconds since 1970. `votes`: all votes in order. `decided`: pairs that need no more votes. Questions on
    screens are in memory: after a restart annotators get new ones.
    """

    def __init__(self, folder: str, settings: LabelSettings, clock: Callable[[], float]) -> None:
        self.store, self.now = Store(folder), clock
        self.settings = _as_made(self.store.about["settings"], settings, self.store.file)
        labels = dict(self.store.pairs())
        self.pairs = list(labels)
        self.gold = {pair: label for pair, label in labels.items() if label is not None}
        self.votes = self.store.votes()
        self._questions: dict[str, Question] = {}
        self.take(VoteScores.fit(self.judged(), self.gold))

    def question(self, annotator: str) -> Question | None:
        """Return this annotator's current question until it has a vote or expires; None if no question is left."""
        known = self._questions.get(annotator)
        if known is not None and (known.expires >= self.now() or known.repeat or known.pair in self._open(annotator)):
            return known
        self._questions.pop(annotator, None)
        pair, repeat = self._choose(annotator)
        if pair is None:
            return None
        flipped = random.random() < 0.5
        if repeat:  # with sides exchanged
            flipped = not next(vote.flipped for vote in self.votes_of(annotator) if vote.pair == pair)
        return self._ask(annotator, pair, repeat, flipped)

    def segments(self, question: Question) -> list[Any]:
        """Return the two segments of a question, the left one (A) first."""
        segments = self.store.segments(question.pair)
        return segments[::-1] if question.flipped else segments

    def vote(self, annotator: str, token: str, label: Label) -> None:
        """Store a vote (first: A, on the left; second, tie or skip) on the question with this token, at most once.

        The vote is on the disk on return. Raises `Stale` if the token belongs to another question.
        """
        question = self._questions.get(annotator)
        if question is None or question.token != token:
            if all(vote.token != token for vote in self.votes_of(annotator)):
                raise Stale
            return
        label = exchanged(label, question.flipped)
        vote = Vote(
            pair=question.pair,
            annotator=annotator,
            label=label,
            repeat=question.repeat,
            flipped=question.flipped,
            time=self.now(),
            token=token,
        )
        self.store.vote(vote)
        self.votes.append(vote)
        del self._questions[annotator]
        self.decided |= self.scores.decided(self.judged(vote.pair), self.settings.posterior)

    def undo(self, annotator: str) -> None:
        """Take back the last vote, and ask its question again; do nothing without a vote."""
        vote = self.last_vote(annotator)
        if vote is None:
            return
        self.store.undo(vote)
        self.votes.remove(vote)
        self._ask(annotator, vote.pair, vote.repeat, vote.flipped)
        if not vote.repeat:
            self.decided.discard(vote.pair)
            self.decided |= self.scores.decided(self.judged(vote.pair), self.settings.posterior)

    def votes_of(self, annotator: str) -> list[Vote]:
        """Return the votes of an annotator in order."""
        return [vote for vote in self.votes if vote.annotator == annotator]

    def last_vote(self, annotator: str) -> Vote | None:
        """Return the last vote of an annotator, or None."""
        return next(reversed(self.votes_of(annotator)), None)

    def bearer(self, token: str) -> str | None:
        """Return the annotator with an invitation of this token; None if it has expired or was withdrawn."""
        for name, (known, expires) in self.store.people().items():
            if expires > self.now() and hmac.compare_digest(known.encode(), token.encode()):
                return name
        return None

    def invite(self, annotator: str) -> None:
        """Invite an annotator. An earlier invitation ends."""
        self.store.invite(annotator, self.now() + 86_400.0 * self.settings.invitation_days)

    def withdraw(self, annotator: str) -> None:
        """End an annotator's invitation at once; their votes stay."""
        self.store.invite(annotator, 0.0)
        self._questions.pop(annotator, None)

    def judged(self, pair: int | None = None) -> Votes:
        """Return the votes on a pair, or on all, without skips and repeats."""
        votes = (vote for vote in self.votes if vote.label != "skip" and pair in (None, vote.pair))
        return labels_of(votes)

    def take(self, scores: VoteScores) -> None:
        """Use these scores from now on, also for votes that came later."""
        self.scores = scores
        self.decided = scores.decided(self.judged(), self.settings.posterior)

    def _ask(self, annotator: str, pair: int, repeat: bool, flipped: bool) -> Question:
        question = Question(secrets.token_urlsafe(12), pair, repeat, flipped, self.now() + _RESERVED)
        self._questions[annotator] = question
        return question

    def _open(self, annotator: str) -> list[int]:
        """Return the pairs on which a vote of this annotator is useful.

        Pairs with votes, or on other screens, come before new ones, so that pairs get several votes.
        """
        now, votes = self.now(), Counter(vote.pair for vote in self.votes if not vote.repeat)
        votes.update(one.pair for name, one in self._questions.items() if name != annotator and one.expires > now)
        closed = self.decided | {vote.pair for vote in self.votes_of(annotator)}
        open_pairs = [pair for pair in self.pairs if votes[pair] < self.settings.votes and pair not in closed]
        return sorted(open_pairs, key=lambda pair: votes[pair] == 0)

    def _choose(self, annotator: str) -> tuple[int | None, bool]:
        """Return the next pair, and a flag for repeats; None if no question is left for this annotator."""
        votes = self.votes_of(annotator)
        seen, repeated = {vote.pair for vote in votes}, {vote.pair for vote in votes if vote.repeat}
        unseen = [pair for pair in self.gold if pair not in seen]
        if unseen and random.random() < self.settings.gold:
            return random.choice(unseen), False
        old = [vote.pair for vote in votes[:-_APART] if vote.pair not in repeated]
        if old and random.random() < self.settings.repeats:
            return random.choice(old), True
        return next(iter(self._open(annotator)), None), False


def exchanged(label: Label, flipped: bool) -> Label:
    """Return the label, with its sides exchanged if they were exchanged on the page."""
    other: dict[Label, Label] = {"first": "second", "second": "first"}
    return other.get(label, label) if flipped else label


def _as_made(stored: Any, settings: LabelSettings, file: str) -> LabelSettings:
    """Return the settings, completed by the store's. Raises `UserError` for a setting that differs from the store's."""
    made = parse(LabelSettings, stored, f"{file}: settings").model_dump(include=set(DRAWN))
    for key in settings.model_fields_set.intersection(DRAWN):
        if made[key] != getattr(settings, key):
            raise UserError(
                f"{file}: label: key '{key}': the store was made with {made[key]!r}, found {getattr(settings, key)!r}; "
                "expected the same, or another --store"
            )
    return settings.model_copy(update=made)
