"""Rows of arrays as they were at a time, read slice by slice while the rows change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

import numpy as np

from prefrec_ray.storage import SlicedArray

#: Calls a function at a time when no rows change, and returns its result.
Take: TypeAlias = Callable[[Callable[[], np.ndarray]], np.ndarray]
#: Bytes of a slice: less than a millisecond to copy.
SLICE_BYTES = 1 << 20


def at_once(call: Callable[[], np.ndarray]) -> np.ndarray:
    """Call a function: a `Take` for rows that do not change meanwhile."""
    return call()


class FrozenRows:
    """The first `count` rows of `arrays` as they are now.

    A copy of many rows would take long, so it is made in slices. Call `keep` before rows are changed in place; it
    copies those that are about to change for the first time. If the owner replaces an array by a longer one, nothing
    else is needed. Call `end` when the rows have been read.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], count: int) -> None:
        self._arrays, self._count = dict(arrays), count
        self._place: dict[int, int] = {}  # of a row in `_before`
        self._before = {name: array[:0].copy() for name, array in arrays.items()}
        self._buffer = np.empty(0, np.uint8)

    def __len__(self) -> int:
        return self._count

    def has(self, array: np.ndarray) -> bool:
        """Return True if `array` is one of the arrays whose rows are still read."""
        return any(one is array for one in self._arrays.values())

    def keep(self, rows: np.ndarray) -> None:
        """Copy `rows` int64 [m] that are not copied yet; new rows, from `count` on, are left out."""
        if not self._count:
            return
        new = [row for row in dict.fromkeys(rows.tolist()) if row < self._count and row not in self._place]
        if not new:
            return
        first = len(self._place)
        for name, array in self._arrays.items():
            if first + len(new) > len(self._before[name]):
                room = np.empty((first + len(new), *array.shape[1:]), array.dtype)
                self._before[name] = np.concatenate([self._before[name], room])
            self._before[name][first : first + len(new)] = array[new]
        self._place.update(zip(new, range(first, first + len(new)), strict=True))

    def end(self) -> None:
        """Release the memory; later calls of `keep` have no effect."""
        self._arrays, self._before, self._place, self._count = {}, {}, {}, 0

    def sliced(self, take: Take) -> dict[str, SlicedArray]:
        """Return the arrays by name, whose slices are copied by `take`."""
        return {
            name: SlicedArray(array.dtype, (self._count, *array.shape[1:]), self._slices(name, take))
            for name, array in self._arrays.items()
        }

    def _slices(self, name: str, take: Take) -> Iterator[np.ndarray]:
        row = self._arrays[name][:0]
        step = max(1, SLICE_BYTES // max(1, row.itemsize * int(np.prod(row.shape[1:]))))
        for first in range(0, self._count, step):
            last = min(self._count, first + step)
            yield take(partial(self._read, name, first, last))

    def _read(self, name: str, first: int, last: int) -> np.ndarray:
        """Return the rows from `first` to `last`; the memory is used again by the next call."""
        now = self._arrays[name][first:last]
        if now.nbytes > len(self._buffer):  # new memory for each slice would take longer than the copies
            self._buffer = np.empty(now.nbytes, np.uint8)
        copy = self._buffer[: now.nbytes].view(now.dtype).reshape(now.shape)
        copy[...] = now
        for row, place in self._place.items():
            if first <= row < last:
                copy[row - first] = self._before[name][place]
        return copy
