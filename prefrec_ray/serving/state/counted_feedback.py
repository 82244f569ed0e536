"""Register of counted feedback: each counts once, and late feedback is refused."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from prefrec_ray.mdp.frozen import FrozenRows

#: Most items of one recommendation, one bit each.
MOST = 64
_MINUTE_MS = 60_000
_KEYS = 4096

#: Key of feedback on a recommendation: the row of the recommendation, and the position of the item.
OfRow = tuple[int, int]
#: Key of feedback under the client's own id: the id, the user and the item. Several users and items may share an id.
Own = tuple[str, int | str, int | str]
Key = OfRow | Own
#: Frozen keys: lists of keys and times that only grow, each with its first entry and the end of its entries.
FrozenIds = list[tuple[list[tuple[Own, int]], int, int]]


class OwnIds:
    """Keys of feedback under clients' own ids, each with the time when it was received, in this order.

    Keys are in short lists that only grow, so that a copy of the lists' lengths freezes millions of keys.
    """

    def __init__(self) -> None:
        self._received: dict[Own, int] = {}
        self._lists: deque[list[tuple[Own, int]]] = deque()
        self._gone = 0  # entries of the first list

    def __contains__(self, key: Own) -> bool:
        return key in self._received

    def add(self, key: Own, received: int) -> None:
        if not self._lists or len(self._lists[-1]) == _KEYS:
            self._lists.append([])
        self._lists[-1].append((key, received))
        self._received[key] = received

    def forget(self, limit: int) -> None:
        """Forget the first keys, up to the time `limit`."""
        while self._lists:
            for key, received in self._lists[0][self._gone :]:
                if received > limit:
                    return
                self._gone += 1
                if self._received.get(key) == received:  # it may have been added again
                    del self._received[key]
            self._lists.popleft()
            self._gone = 0

    def freeze(self) -> FrozenIds:
        """Return the keys as they are now."""
        return [(one, self._gone if at == 0 else 0, len(one)) for at, one in enumerate(self._lists)]


class _Mark(NamedTuple):
    number: int
    received: int


class Answered:
    """One bit for each item of each row of the log in the last `window_ms`, and the feedback under clients' own ids.

    `start` is the first row in the window. `received` is the server's clock, ms. If it jumps back, nothing is forgotten
    until it has caught up.
    """

    def __init__(self, window_ms: int) -> None:
        self._window = window_ms
        self._base = self.start = 0
        self._bits = np.zeros(1024, dtype=np.uint64)
        self._marks: deque[_Mark] = deque()  # at most two per minute: rows before `number` existed at `received`
        self._own = OwnIds()
        self._frozen: FrozenRows | None = None

    @property
    def latest(self) -> int:
        """Return the latest `received`; 0 before the first."""
        return self._marks[-1].received if self._marks else 0

    def advance(self, next_number: int, received: int) -> None:
        """Register rows up to `next_number`, and forget rows out of the window."""
        if next_number - self._base > len(self._bits):
            self._bits = np.concatenate(
                [self._bits, np.zeros(max(len(self._bits), next_number - self._base), np.uint64)]
            )
        if not self._marks or received >= self._marks[-1].received:
            if len(self._marks) > 1 and received < self._marks[-2].received + _MINUTE_MS:
                self._marks.pop()
            self._marks.append(_Mark(next_number, received))
        self.forget(received)

    def forget(self, now: int) -> None:
        """Forget rows and ids out of the window at `now`."""
        limit = now - self._window
        while self._marks and self._marks[0].received <= limit:
            self.start = max(self.start, self._marks[0].number)
            if len(self._marks) == 1:
                break
            self._marks.popleft()
        gone = self.start - self._base
        if gone > len(self._bits) // 2:
            self._bits, self._base = np.concatenate([self._bits[gone:], np.zeros(gone, np.uint64)]), self.start
        self._own.forget(limit)

    def has(self, key: Key) -> bool:
        """Return True if this feedback is counted already."""
        if len(key) == 3:
            return key in self._own
        number, position = key
        return bool(self._bits[number - self._base] >> np.uint64(position) & np.uint64(1))

    def add(self, key: Key, received: int) -> None:
        if len(key) == 3:
            self._own.add(key, received)
        elif key[0] >= self._base:
            if self._frozen is not None and self._frozen.has(self._bits):  # not yet replaced by other rows
                self._frozen.keep(np.array([key[0] - self._base]))
            self._bits[key[0] - self._base] |= np.uint64(1) << np.uint64(key[1])

    def freeze(self) -> FrozenAnswered:
        """Return the register as it is now."""
        bits = self._frozen = FrozenRows({"bits": self._bits}, len(self._bits))
        numbers = {"base": self._base, "start": self.start, "marks": list(self._marks)}
        return FrozenAnswered(numbers, self._own.freeze(), bits)

    def load(self, described: dict[str, Any], bits: np.ndarray) -> None:
        """Load a frozen register."""
        self._base, self.start, self._bits = described["base"], described["start"], bits
        self._marks = deque(_Mark(*mark) for mark in described["marks"])
        self._own = OwnIds()
        for name, user, item, received in described["own"]:
            self._own.add((name, user, item), received)


class FrozenAnswered(NamedTuple):
    """A register as it was at a time: numbers, the keys of feedback under clients' own ids, and the bits."""

    numbers: dict[str, Any]
    own: FrozenIds
    bits: FrozenRows

    def described(self) -> dict[str, Any]:
        """Return the JSON part of a snapshot, with id, user, item and time of each key. May take long."""
        own = [[*key, received] for keys, first, end in self.own for key, received in keys[first:end]]
        return {**self.numbers, "own": own}
