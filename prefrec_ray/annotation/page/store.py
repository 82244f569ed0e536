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
from typing import Any, TypeVar

from pydantic.dataclasses import dataclass

from prefrec_ray import storage
from prefrec_ray.errors import UserError

#: pair_id, split, gold label and segments (JSON) of a pair.
PairRow = tuple[int, str, str | None, str]

FILE, VERSION = "labels.sqlite", 2
_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE pairs (pair INTEGER PRIMARY KEY, split TEXT NOT NULL, gold TEXT, segments TEXT NOT NULL);
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
CREATE TABLE audit (time REAL NOT NULL, event TEXT NOT NULL, annotator TEXT NOT NULL);
"""
#: Pairs without a vote of an annotator, and with fewer votes and other annotators' leases than the maximum.
_OPEN = """
SELECT pair FROM pairs
LEFT JOIN (SELECT pair, count(*) AS voted FROM votes WHERE NOT repeat GROUP BY pair) USING (pair)
LEFT JOIN (SELECT pair, count(*) AS leased FROM leases WHERE annotator <> :annotator AND expires > :now GROUP BY pair)
    USING (pair)
WHERE ifnull(voted, 0) + ifnull(leased, 0) < :most
    AND pair NOT IN (SELECT pair FROM votes WHERE annotator = :annotator)
ORDER BY voted IS NULL AND leased IS NULL, pair
"""


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


Row = TypeVar("Row", Lease, Vote)


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
        except (sqlite3.DatabaseError, ValueError) as error:
            self._db.close()
            raise UserError(f"{self.file}: not a store of votes ({error})") from error

    def _check(self) -> None:
        """Raise `ValueError` or `sqlite3.DatabaseError` for damaged pages, missing tables or keys, another version."""
        if self.about.get("version", VERSION) != VERSION:
            raise ValueError(f"version {self.about['version']}; expected {VERSION}")
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise ValueError(" ".join(found.split()))
        for table in ("pairs", "people", "leases", "votes", "audit"):
            self._db.execute(f"SELECT * FROM {table} LIMIT 0")
        missing = sorted({"dataset", "secret", "settings", "signals", "version"} - set(self.about))
        if missing:
            raise ValueError(f"missing: {', '.join(missing)}")

    @staticmethod
    def create(folder: str, about: dict[str, Any], pairs: Iterable[PairRow]) -> None:
        """Create the file in `folder` on a local disk, readable by its owner only: it contains the secret."""
        file = _file(folder)
        db = sqlite3.connect(file, isolation_level=None)
        try:
            os.chmod(file, 0o600)
            db.executescript(_TABLES)
            with _durable(db):
                rows = [(key, json.dumps(value)) for key, value in {**about, "version": VERSION}.items()]
                db.executemany("INSERT INTO about VALUES (?, ?)", rows)
                db.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?)", pairs)
        finally:
            db.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def pairs(self) -> list[tuple[int, str | None]]:
        """Return (pair, gold label) of all pairs."""
        return self._db.execute("SELECT pair, gold FROM pairs").fetchall()

    def open_pairs(self, annotator: str, now: float, most: int) -> list[int]:
        """Return the pairs on which a vote of the annotator counts, if a pair has `most` votes at most.

        Pairs with votes or leases come before new ones, so that pairs get several votes. Ids are hashes, so that their
        order is random.
        """
        rows = self._db.execute(_OPEN, {"annotator": annotator, "now": now, "most": most})
        return [pair for (pair,) in rows]

    def segments(self, pair: int) -> list[Any]:
        """Return the two segments of a pair (`questions.Segment`)."""
        (segments,) = self._db.execute("SELECT segments FROM pairs WHERE pair = ?", (pair,)).fetchone()
        return json.loads(segments)

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

    def leases(self, **equal: Any) -> list[Lease]:
        """Return the leases with the given columns, at most one per annotator."""
        return self._select(Lease, "leases", "rowid", equal)

    def votes(self, last: bool = False, **equal: Any) -> list[Vote]:
        """Return the votes with the given columns, in order; with `last` at most one."""
        return self._select(Vote, "votes", "number DESC LIMIT 1" if last else "number", equal)

    def labels(self, pair: int | None = None) -> list[tuple[int, str, str]]:
        """Return (pair, annotator, label) of the votes on a pair, or of all votes, without repeats."""
        query = "SELECT pair, annotator, label FROM votes WHERE NOT repeat AND pair = ifnull(?, pair) ORDER BY number"
        return self._db.execute(query, (pair,)).fetchall()

    def lease(self, lease: Lease) -> None:
        """Set the lease of an annotator."""
        self._insert("INSERT OR REPLACE INTO leases", lease)

    def vote(self, vote: Vote) -> None:
        """Replace a lease by its vote, which is on the disk on return."""
        with _durable(self._db):
            self._insert("INSERT INTO votes", vote)
            self._db.execute("DELETE FROM leases WHERE token = ?", (vote.token,))

    def undo(self, vote: Vote, lease: Lease) -> None:
        """Replace a vote by a lease."""
        with _durable(self._db):
            self._db.execute("DELETE FROM votes WHERE token = ?", (vote.token,))
            self.lease(lease)

    def remove(self, pairs: Iterable[int]) -> tuple[int, int]:
        """Delete pairs with their leases and votes, and overwrite their bytes; return the numbers of pairs and votes.

        It is on the disk on return, and repeatable after a kill.
        """
        rows = [(pair,) for pair in pairs]
        self._db.execute("PRAGMA secure_delete=ON")
        with _durable(self._db):
            self._db.executemany("DELETE FROM leases WHERE pair = ?", rows)
            votes = self._db.executemany("DELETE FROM votes WHERE pair = ?", rows).rowcount
            removed = self._db.executemany("DELETE FROM pairs WHERE pair = ?", rows).rowcount
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return max(0, removed), max(0, votes)

    def _insert(self, query: str, row: Lease | Vote) -> None:
        columns = vars(row)
        self._db.execute(
            f"{query} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", [*columns.values()]
        )

    def _select(self, kind: type[Row], table: str, order: str, equal: dict[str, Any]) -> list[Row]:
        columns = ", ".join(kind.__dataclass_fields__)
        where = " AND ".join(["1", *(f"{name} = ?" for name in equal)])
        query = f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {order}"
        return [kind(*row) for row in self._db.execute(query, [*equal.values()])]


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
