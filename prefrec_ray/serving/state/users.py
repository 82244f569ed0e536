"""Users of a server: one row per user, in the order of their first event, their impressions and arms.

The arm of a user depends on a stable hash of the id, equal on every host and after every restart.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream, fraction, hash_ids
from prefrec_ray.mdp.frozen import FrozenRows, Take
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.storage import SlicedArray

UserId = int | str
_SECONDS = (1 << 32) - 1
#: A user's earlier times of an item are dropped when the number of entries passes a power of two from 64 on.
_FEW_BITS = 6
#: Users of a slice whose items are copied at once.
_USERS = 1 << 12


class ServedUsers:
    """Ids, arms, times of the last feedback, and the last time of each item that rests for a user."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._rows: dict[UserId, int] = {}
        #: Codes of items in the upper 32 bits, times in seconds in the lower ones.
        self._seen: list[array[int] | None] = []
        self._entries = 0  # of all users in `_seen`
        self._frozen: FrozenUsers | None = None
        self._last = np.zeros(0, dtype=np.int64)
        self.arm = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ids(self) -> list[UserId]:
        """Return the ids, by row."""
        return list(self._rows)

    def find(self, user: UserId) -> int | None:
        """Return the row of a user, None for a new one.

        Raises `UserError` for an id of another type than the existing ids.
        """
        if self._rows and type(user) is not type(next(iter(self._rows))):
            kind = "text" if isinstance(user, int) else "a whole number"
            raise UserError(f"user: found {user!r}; expected {kind}, as for all earlier ids")
        return self._rows.get(user)

    def add(self, users: Sequence[UserId]) -> None:
        """Add new users, each once."""
        first = len(self)
        self._rows.update(zip(users, range(first, first + len(users)), strict=True))
        self._seen += [None] * len(users)
        if len(self) > len(self.arm):
            room = max(len(self), 2 * len(self.arm), 64) - len(self.arm)
            self._last = np.concatenate([self._last, np.full(room, -1)])
            self.arm = np.concatenate([self.arm, np.zeros(room, np.int64)])
        if users:
            self.arm[first : len(self)] = arm_of(users, self._settings)

    def keep(self, count: int) -> None:
        """Keep the first `count` users; later ones have no impression or feedback yet."""
        while len(self) > count:
            self._rows.popitem()
        del self._seen[count:]

    def last(self, row: int) -> int:
        """Return the time of the user's last feedback, -1 before the first."""
        return int(self._last[row])

    def came(self, rows: np.ndarray, timestamps: np.ndarray) -> None:
        """Register the times of feedback, in this order; a user may have several entries."""
        if self._frozen is not None:
            self._frozen.last.keep(rows)
        self._last[rows] = timestamps

    def resting(self, row: int, now: int, rest_ms: float) -> np.ndarray:
        """Return the codes of the items that rest for the user at the time `now` in ms, int64.

        An impression much later than `now` had a wrong clock.
        """
        mine = self._seen[row]
        packed = np.frombuffer(mine, dtype=np.int64) if mine else np.zeros(0, np.int64)
        return packed[abs(now - 1000 * (packed & _SECONDS)) < rest_ms] >> 32

    def see(self, row: int, codes: Sequence[int], timestamp: int) -> None:
        """Register that items rest from a time in ms on."""
        if self._frozen is not None:
            self._frozen.keep_seen(row)
        mine = self._seen[row]
        if mine is None:
            mine = self._seen[row] = array("q")
        before = len(mine)
        mine.extend(code << 32 | timestamp // 1000 for code in codes)
        if before.bit_length() < len(mine).bit_length() > _FEW_BITS:
            mine = self._seen[row] = array("q", _latest(np.array(mine)).tobytes())
        self._entries += len(mine) - before

    def freeze(self) -> FrozenUsers:
        """Return the users as they are now."""
        last = FrozenRows({"last": self._last}, len(self))
        self._frozen = FrozenUsers(self.ids, last, self._seen, self._entries)
        return self._frozen

    def load(self, ids: Sequence[UserId], arrays: dict[str, np.ndarray]) -> None:
        """Load frozen users into a new object."""
        self.add(ids)
        self._last[: len(self)] = arrays["last"]
        ends, packed = np.cumsum(arrays["lengths"]), arrays["seen"] << 32 | arrays["seconds"]
        for row in np.flatnonzero(arrays["lengths"]).tolist():
            mine = packed[ends[row] - arrays["lengths"][row] : ends[row]]
            found = self._seen[row] = array("q", mine[mine >= 0].tobytes())
            self._entries += len(found)

    def deal(self, settings: ServeSettings, dealt: np.ndarray) -> None:
        """Assign users to the arms of `settings`. `dealt` are the arms of the first users, to save time."""
        self._settings = settings
        self.arm[: len(dealt)] = dealt
        new = self.ids[len(dealt) :]
        if new:
            self.arm[len(dealt) : len(self)] = arm_of(new, settings)


class FrozenUsers:
    """Users as they were at a time: `ids`, `last` as rows, and the items that rest, in slices as of `FrozenRows`.

    Call `keep_seen` before the items of a user change, and `end` when all has been read.
    """

    def __init__(self, ids: list[UserId], last: FrozenRows, seen: list[array[int] | None], entries: int) -> None:
        self.ids, self.last = ids, last
        self._seen, self._entries = seen, entries
        self._before: dict[int, bytes | array[int]] = {}

    def keep_seen(self, row: int) -> None:
        """Copy the items of a user, unless they are copied already or the user is new."""
        if row < len(self.ids) and row not in self._before:
            self._before[row] = array("q", self._seen[row] or ())

    def end(self) -> None:
        """Release the memory; later calls of `keep_seen` have no effect."""
        self.last.end()
        self.ids, self._seen, self._before = [], [], {}

    def sliced(self, take: Take) -> dict[str, SlicedArray]:
        """Return the arrays of a snapshot by name, whose slices are copied by `take`."""
        parts = {
            "seen": (self._entries, lambda seen: _joined(seen) >> 32),
            "seconds": (self._entries, lambda seen: _joined(seen) & _SECONDS),
            "lengths": (len(self.ids), lambda seen: np.fromiter(map(len, seen), np.int64, len(seen))),
        }
        whole = np.dtype(np.int64)
        arrays = {name: SlicedArray(whole, (n,), self._slices(take, of)) for name, (n, of) in parts.items()}
        return {**arrays, **self.last.sliced(take)}

    def _slices(self, take: Take, of: Callable[[list[Any]], np.ndarray]) -> Iterator[np.ndarray]:
        for first in range(0, len(self.ids), _USERS):
            last = min(len(self.ids), first + _USERS)
            yield take(partial(self._read, of, first, last))

    def _read(self, of: Callable[[list[Any]], np.ndarray], first: int, last: int) -> np.ndarray:
        """Return `of` the items of the users from row `first` to row `last`."""
        mine: list[bytes | array[int]] = [codes or b"" for codes in self._seen[first:last]]
        for row, before in self._before.items():
            if first <= row < last:
                mine[row - first] = before
        return of(mine)


def _joined(seen: list[bytes | array[int]]) -> np.ndarray:
    """Return packed codes and times int64 [m]; no array is made per user."""
    return np.frombuffer(b"".join(seen), np.int64)


def _latest(packed: np.ndarray) -> np.ndarray:
    """Return the last entry of each code, of packed codes and times int64 [m]."""
    packed.sort()
    return packed[np.append(packed[1:] >> 32 != packed[:-1] >> 32, True)]


def arm_of(users: Sequence[UserId], settings: ServeSettings) -> np.ndarray:
    """Return the arm of each user, int64 [n]: 0 is the main arm, then the canaries in their order.

    Canaries take intervals of hashes from 0 on, in their order. If the shares before a canary stay the same, a growing
    share keeps its users.
    """
    kind = pa.string() if users and isinstance(users[0], str) else pa.int64()
    place = fraction(hash_ids(pa.array(users, kind), settings.seed, Stream.ARM, 0))
    borders = np.cumsum([arm.share for arm in settings.canaries])
    arm = np.searchsorted(borders, place, side="right") + 1
    return np.where(arm > len(settings.canaries), 0, arm)
