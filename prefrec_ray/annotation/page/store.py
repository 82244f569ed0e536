"""The store of votes, one SQLite file: pairs, annotators and votes.

A vote is on the disk before it is acknowledged: it survives a kill and a power cut. There is one writer.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable
from importlib.resources import files
from typing import Any, Literal

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.settings import Settings, parse

Label = Literal["first", "second", "tie", "skip"]
#: pair_id, split, gold label and segments (JSON) of a pair.
PairRow = tuple[int, str, str | None, str]

FILE, VERSION = "labels.sqlite", 3
_ABOUT = {"dataset": str, "secret": str, "settings": dict, "signals": list, "version": int}


class Vote(Settings):
    """A vote. flipped: the second segment was on the left. time: since 1970, s."""

    pair: int
    annotator: str
    label: Label
    repeat: bool
    flipped: bool
    time: float
    token: str


class Store:
    """An open store. Raises `UserError` if `folder` contains none, a damaged one, or one of another version."""

    def __init__(self, folder: str) -> None:
        self.file = _file(folder)
        if not storage.exists(self.file):
            raise UserError(f"{folder}: no store of votes (no {FILE}); make one by `prefrec label`")
        try:
            self._db = sqlite3.connect(self.file)
        except sqlite3.DatabaseError as error:  # for example a file of another user
            raise UserError(f"{self.file}: {error}; expected a store of votes") from error
        try:
            # A transaction is on the disk when it ends.
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
            self.about: dict[str, Any] = {
                key: json.loads(value) for key, value in self._db.execute("SELECT key, value FROM about")
            }
            self._check()
        except (sqlite3.DatabaseError, ValueError, RecursionError) as error:
            self._db.close()
            raise UserError(f"{self.file}: not a store of votes ({error})") from error

    def _check(self) -> None:
        """Raise `ValueError` or `sqlite3.DatabaseError` for damaged pages, missing or bad values, another version."""
        if self.about.get("version", VERSION) != VERSION:
            raise ValueError(f"version {self.about['version']}; expected {VERSION}")
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise ValueError(" ".join(found.split()))
        wrong = [key for key, kind in _ABOUT.items() if not isinstance(self.about.get(key), kind)]
        if wrong:
            raise ValueError(f"missing, or of another type: {', '.join(wrong)}")
        self.votes()
        gold = {label for _, label in self.pairs()} - {None, "first", "second", "tie"}
        if gold:
            raise ValueError(f"found the gold label {gold.pop()!r}; expected first, second or tie")
        columns = "typeof(annotator) || typeof(token) || typeof(expires)"
        if self._db.execute(f"SELECT 1 FROM people WHERE {columns} != 'texttextreal'").fetchone():
            raise ValueError("people: found values of another type")

    @staticmethod
    def create(folder: str, about: dict[str, Any], pairs: Iterable[PairRow]) -> None:
        """Create the file in `folder` on a local disk, readable by its owner only: it contains the secret."""
        file = _file(folder)
        db = sqlite3.connect(file)
        try:
            os.chmod(file, 0o600)
            db.executescript(files(__package__).joinpath("schema.sql").read_text("utf-8"))
            with db:
                rows = [(key, json.dumps(value)) for key, value in {**about, "version": VERSION}.items()]
                db.executemany("INSERT INTO about VALUES (?, ?)", rows)
                db.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?)", pairs)
        finally:
            db.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def pairs(self) -> list[tuple[int, str | None]]:
        """Return (pair, gold label) of all pairs. Ids are hashes, so that their order is random."""
        return self._db.execute("SELECT pair, gold FROM pairs ORDER BY pair").fetchall()

    def segments(self, pair: int) -> list[Any]:
        """Return the two segments of a pair (`questions.Segment`)."""
        (segments,) = self._db.execute("SELECT segments FROM pairs WHERE pair = ?", (pair,)).fetchone()
        return json.loads(segments)

    def people(self) -> dict[str, tuple[str, float]]:
        """Return token and end of each annotator's invitation; the end is in seconds since 1970, 0 if withdrawn."""
        rows = self._db.execute("SELECT annotator, token, expires FROM people ORDER BY annotator")
        return {annotator: (token, expires) for annotator, token, expires in rows}

    def invite(self, annotator: str, expires: float) -> str:
        """Let the bearer of the returned token vote as this annotator until `expires`; an earlier token ends."""
        token = secrets.token_urlsafe(24)
        with self._db:
            self._db.execute(
                "INSERT INTO people VALUES (?, ?, ?) ON CONFLICT (annotator) "
                "DO UPDATE SET token = excluded.token, expires = excluded.expires",
                (annotator, token, expires),
            )
        return token

    def votes(self) -> list[Vote]:
        """Return all votes in order. Raises `UserError` for a vote with another label, or values of another type."""
        columns = list(Vote.model_fields)
        rows = self._db.execute(f"SELECT {', '.join(columns)} FROM votes ORDER BY number")
        return [parse(Vote, dict(zip(columns, row, strict=True)), "votes") for row in rows]

    def vote(self, vote: Vote) -> None:
        """Add a vote, which is on the disk on return."""
        columns = vars(vote)
        query = f"INSERT INTO votes ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        with self._db:
            self._db.execute(query, [*columns.values()])

    def undo(self, vote: Vote) -> None:
        """Delete a vote."""
        with self._db:
            self._db.execute("DELETE FROM votes WHERE token = ?", (vote.token,))

    def remove(self, pairs: Iterable[int]) -> tuple[int, int]:
        """Delete pairs with their votes, and overwrite their bytes; return the numbers of pairs and votes.

        It is on the disk on return, and repeatable after a kill.
        """
        rows = [(pair,) for pair in pairs]
        self._db.execute("PRAGMA secure_delete=ON")
        with self._db:
            votes = self._db.executemany("DELETE FROM votes WHERE pair = ?", rows).rowcount
            removed = self._db.executemany("DELETE FROM pairs WHERE pair = ?", rows).rowcount
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return max(0, removed), max(0, votes)


def labels_of(votes: Iterable[Vote]) -> list[tuple[int, str, str]]:
    """Return (pair, annotator, label) of the votes, without repeats."""
    return [(vote.pair, vote.annotator, vote.label) for vote in votes if not vote.repeat]


def _file(folder: str) -> str:
    """Return the absolute path: SQLite does not expand `~`."""
    return storage.absolute(storage.join(folder, FILE))
