"""The store of votes, one SQLite file: pairs, annotators, leases, votes, and the history of invitations.

A vote is on the disk before it is acknowledged: it survives a kill and a power cut. A lease survives only a kill. There
is one writer.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefrec_ray import storage
from prefrec_ray.annotation.page.rank import Lists
from prefrec_ray.errors import UserError

#: pair_id, split, gold label, segments (JSON) and outcome (JSON) of a pair.
PairRow = tuple[int, str, str | None, str, str]

FILE, VERSION = "labels.sqlite", 1
_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE pairs (
    pair INTEGER PRIMARY KEY, split TEXT NOT NULL, gold TEXT, segments TEXT NOT NULL, outcome TEXT NOT NULL);
CREATE TABLE people (annotator TEXT PRIMARY KEY, expires REAL NOT NULL);
CREATE TABLE leases (
    annotator TEXT PRIMARY KEY REFERENCES people, token TEXT NOT NULL UNIQUE, pair INTEGER NOT NULL REFERENCES pairs,
    repeat INTEGER NOT NULL, flipped INTEGER NOT NULL, changed INTEGER NOT NULL, since REAL NOT NULL,
    expires REAL NOT NULL);
CREATE TABLE votes (
    number INTEGER PRIMARY KEY AUTOINCREMENT, pair INTEGER NOT NULL REFERENCES pairs,
    annotator TEXT NOT NULL REFERENCES people, label TEXT NOT NULL, repeat INTEGER NOT NULL, flipped INTEGER NOT NULL,
    changed INTEGER NOT NULL, seconds REAL NOT NULL, time REAL NOT NULL, token TEXT NOT NULL UNIQUE,
    UNIQUE (pair, annotator, repeat));
"""
#: Stores of earlier versions lack it.
_AUDIT = "CREATE TABLE IF NOT EXISTS audit (time REAL NOT NULL, event TEXT NOT NULL, annotator TEXT NOT NULL);"


@dataclass(frozen=True)
class Lease:
    """A pair on an annotator's screen. `flipped`: its second segment is on the left. `changed`: undone votes.

    `since`, `expires`: seconds since 1970.
    """

    annotator: str
    token: str
    pair: int
    repeat: bool
    flipped: bool
    changed: int
    since: float
    expires: float


@dataclass(frozen=True)
class Vote:
    """A vote. label: first, second, tie or skip. seconds: time for the decision. time: seconds since 1970."""

    pair: int
    annotator: str
    label: str
    repeat: bool
    flipped: bool
    changed: int
    seconds: float
    time: float
    token: str


_LEASE = ", ".join(Lease.__dataclass_fields__)
_VOTE = ", ".join(Vote.__dataclass_fields__)


class Store:
    """An open store. Raises `UserError` if `folder` contains none, or one of another version."""

    def __init__(self, folder: str) -> None:
        self.file = _file(folder)
        if not storage.exists(self.file):
            raise UserError(f"{folder}: no store of votes (no {FILE}); make one by `prefrec label`")
        try:
            self._db = sqlite3.connect(self.file, isolation_level=None)
        except sqlite3.DatabaseError as error:  # for example a file of another user
            raise UserError(f"{self.file}: {error}; expected a store of votes") from error
        try:
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;")
            self.about: dict[str, Any] = {
                key: json.loads(value) for key, value in self._db.execute("SELECT key, value FROM about")
            }
            self._check()
            self._db.executescript(_AUDIT)
        except (sqlite3.DatabaseError, ValueError) as error:
            self._db.close()
            raise UserError(f"{self.file}: not a store of votes ({error})") from error
        if self.about.get("version") != VERSION:
            self._db.close()
            raise UserError(f"{self.file}: version {self.about.get('version')}; expected {VERSION}")

    def _check(self) -> None:
        """Raise `ValueError` or `sqlite3.DatabaseError` if pages are damaged, or a table or a key is missing."""
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise ValueError(" ".join(found.split()))
        for table in ("pairs", "people", "leases", "votes"):
            self._db.execute(f"SELECT * FROM {table} LIMIT 0")
        missing = sorted({"dataset", "lists", "secret", "settings", "signals", "version"} - set(self.about))
        if missing:
            raise ValueError(f"missing: {', '.join(missing)}")

    @staticmethod
    def create(folder: str, about: dict[str, Any], pairs: Iterable[PairRow]) -> None:
        """Create the file in `folder` on a local disk, readable by its owner only: it contains the secret."""
        file = _file(folder)
        db = sqlite3.connect(file, isolation_level=None)
        try:
            os.chmod(file, 0o600)
            db.executescript(_TABLES + _AUDIT)
            with _durable(db):
                rows = [(key, json.dumps(value)) for key, value in {**about, "version": VERSION}.items()]
                db.executemany("INSERT INTO about VALUES (?, ?)", rows)
                db.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?, ?)", pairs)
        finally:
            db.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def pairs(self) -> list[tuple[int, str, str | None]]:
        """Return (pair, split, gold label) of all pairs."""
        return self._db.execute("SELECT pair, split, gold FROM pairs").fetchall()

    def shown(self, pair: int) -> tuple[list[Any], dict[str, Any]]:
        """Return the two segments of a pair, and its outcome."""
        segments, outcome = self._db.execute("SELECT segments, outcome FROM pairs WHERE pair = ?", (pair,)).fetchone()
        return json.loads(segments), json.loads(outcome)

    def invite(self, annotator: str, expires: float, now: float = 0.0) -> None:
        """Let an annotator vote until `expires`, which replaces an earlier invitation; `now`: the time of the event."""
        query = "INSERT INTO people VALUES (?, ?) ON CONFLICT (annotator) DO UPDATE SET expires = excluded.expires"
        with _durable(self._db):
            self._db.execute(query, (annotator, expires))
            self._db.execute("INSERT INTO audit VALUES (?, 'invited', ?)", (now, annotator))

    def withdraw(self, annotator: str, now: float) -> None:
        """End the invitation and the lease of an annotator; their votes stay."""
        with _durable(self._db):
            self._db.execute("UPDATE people SET expires = 0 WHERE annotator = ?", (annotator,))
            self._db.execute("DELETE FROM leases WHERE annotator = ?", (annotator,))
            self._db.execute("INSERT INTO audit VALUES (?, 'withdrawn', ?)", (now, annotator))

    def audit(self) -> list[tuple[float, str, str]]:
        """Return (time, event, annotator) of all invitations and withdrawals, the last one first."""
        return self._db.execute("SELECT time, event, annotator FROM audit ORDER BY rowid DESC").fetchall()

    def people(self) -> dict[str, float]:
        """Return the end of each annotator's invitation; 0 if it was withdrawn."""
        return dict(self._db.execute("SELECT annotator, expires FROM people ORDER BY annotator"))

    def leases(self) -> list[Lease]:
        """Return all leases, at most one per annotator."""
        return [_lease(row) for row in self._db.execute(f"SELECT {_LEASE} FROM leases")]

    def lease_of(self, annotator: str) -> Lease | None:
        """Return the lease of an annotator, or None."""
        row = self._db.execute(f"SELECT {_LEASE} FROM leases WHERE annotator = ?", (annotator,)).fetchone()
        return None if row is None else _lease(row)

    def lease(self, lease: Lease) -> None:
        """Set the lease of an annotator."""
        self._db.execute(f"INSERT OR REPLACE INTO leases ({_LEASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _row(lease))

    def vote(self, vote: Vote) -> None:
        """Replace a lease by its vote, which is on the disk on return."""
        with _durable(self._db):
            self._db.execute(f"INSERT INTO votes ({_VOTE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(vote))
            self._db.execute("DELETE FROM leases WHERE token = ?", (vote.token,))

    def vote_of(self, token: str) -> Vote | None:
        """Return the vote on a lease, or None."""
        row = self._db.execute(f"SELECT {_VOTE} FROM votes WHERE token = ?", (token,)).fetchone()
        return None if row is None else _vote(row)

    def last_vote(self, annotator: str) -> Vote | None:
        """Return the last vote of an annotator, or None."""
        query = f"SELECT {_VOTE} FROM votes WHERE annotator = ? ORDER BY number DESC LIMIT 1"
        row = self._db.execute(query, (annotator,)).fetchone()
        return None if row is None else _vote(row)

    def votes_of(self, annotator: str) -> list[Vote]:
        """Return all votes of an annotator, in order."""
        query = f"SELECT {_VOTE} FROM votes WHERE annotator = ? ORDER BY number"
        return [_vote(row) for row in self._db.execute(query, (annotator,))]

    def undo(self, vote: Vote, lease: Lease) -> None:
        """Replace a vote by a lease."""
        with _durable(self._db):
            self._db.execute("DELETE FROM votes WHERE token = ?", (vote.token,))
            self.lease(lease)

    def labels(self) -> list[tuple[int, str, str]]:
        """Return (pair, annotator, label) of all votes except repeats; in mode `rank` also of implied ones."""
        by: dict[str, dict[int, str]] = {}
        for vote in self.votes():
            if not vote.repeat:
                by.setdefault(vote.annotator, {})[vote.pair] = vote.label
        if self.about["lists"]:
            lists = Lists(self.about["lists"])
            by = {who: lists.votes(labels) for who, labels in by.items()}
        return [(pair, who, label) for who, labels in by.items() for pair, label in labels.items()]

    def votes(self) -> list[Vote]:
        """Return all votes, in order."""
        return [_vote(row) for row in self._db.execute(f"SELECT {_VOTE} FROM votes ORDER BY number")]


def _file(folder: str) -> str:
    """Return the absolute path: SQLite does not expand `~`."""
    return storage.absolute(storage.join(folder, FILE))


@contextmanager
def _durable(db: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction that is on the disk when it ends."""
    db.execute("PRAGMA synchronous=FULL")
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    finally:
        db.execute("PRAGMA synchronous=NORMAL")


def _row(value: Lease | Vote) -> tuple[Any, ...]:
    return tuple(getattr(value, name) for name in value.__dataclass_fields__)


def _lease(row: tuple[Any, ...]) -> Lease:
    annotator, token, pair, repeat, flipped, *rest = row
    return Lease(annotator, token, pair, bool(repeat), bool(flipped), *rest)


def _vote(row: tuple[Any, ...]) -> Vote:
    pair, annotator, label, repeat, flipped, *rest = row
    return Vote(pair, annotator, label, bool(repeat), bool(flipped), *rest)
