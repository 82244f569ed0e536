"""Register of counted feedback: each counts once, and late feedback is refused."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, NamedTuple

import numpy as np

#: Most items of one recommendation, one bit each.
MOST = 64
_MINUTE_MS = 60_000


#: Key of feedback on a recommendation: the row of the recommendation, and the position of the item.
OfRow = tuple[int, int]
#: Key of feedback under the client's own id: the id, the user and the item. Several users and items may share an id.
Own = tuple[str, int | str, int | str]
Key = OfRow | Own


class _Mark(NamedTuple):
    number: int
    received: int


class Answered:
    """One bit for each item of each row of the log in the last `window_ms`, and the feedback under clients' own ids.

    `received` is the server's clock, ms. If it jumps back, nothing is forgotten until it has caught up.
    """

    def __init__(self, window_ms: int) -> None:
        self._window = window_ms
        self._base = self._start = 0
        self._bits = np.zeros(1024, dtype=np.uint64)
        self._marks: deque[_Mark] = deque()  # at most two per minute: rows before `number` existed at `received`
        self._own: OrderedDict[Own, int] = OrderedDict()

    @property
    def latest(self) -> int:
        """Return the latest `received`; 0 before the first."""
        return self._marks[-1].received if self._marks else 0

    @property
    def start(self) -> int:
        """Return the first row in the window."""
        return self._start

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
            self._start = max(self._start, self._marks[0].number)
            if len(self._marks) == 1:
                break
            self._marks.popleft()
        gone = self._start - self._base
        if gone > len(self._bits) // 2:
            self._bits, self._base = np.concatenate([self._bits[gone:], np.zeros(gone, np.uint64)]), self._start
        while self._own and next(iter(self._own.values())) <= limit:
            self._own.popitem(last=False)

    def has(self, key: Key) -> bool:
        """Return True if this feedback is counted already."""
        if len(key) == 3:
            return key in self._own
        number, position = key
        return bool(self._bits[number - self._base] >> np.uint64(position) & np.uint64(1))

    def add(self, key: Key, received: int) -> None:
        """Register feedback."""
        if len(key) == 3:
            self._own[key] = received
        elif key[0] >= self._base:
            self._bits[key[0] - self._base] |= np.uint64(1) << np.uint64(key[1])

    def forgotten(self, number: int) -> bool:
        """Return True if the row `number` is out of the window."""
        return number < self._start

    def save(self) -> dict[str, Any]:
        """Return the register as plain lists and arrays."""
        return {
            "base": self._base,
            "start": self._start,
            "bits": self._bits,
            "marks": list(self._marks),
            "own": [[*own, received] for own, received in self._own.items()],
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Load the result of `save`."""
        self._base, self._start, self._bits = saved["base"], saved["start"], saved["bits"]
        self._marks = deque(_Mark(*mark) for mark in saved["marks"])
        self._own = OrderedDict(((name, user, item), received) for name, user, item, received in saved["own"])
