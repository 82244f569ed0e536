"""Storage of a tracker's users: arrays with one row per user that can grow, be saved and be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import ConfigDict, NonNegativeInt

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.frozen import FrozenRows, Take
from prefrec_ray.settings import Settings, parse

_DESCRIPTION, _ARRAYS = "tracker.json", "users.npz"


class UserRows:
    """Rows of numbers by name, with the widths of `numbers` (arrays without rows). A new row is zero."""

    def __init__(self, numbers: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(numbers)
        self._count = 0
        self._frozen: FrozenRows | None = None

    def __len__(self) -> int:
        return self._count

    def freeze(self) -> FrozenRows:
        """Return the rows as they are now. Until its `end`, rows are written by their numbers, not by a slice."""
        self._frozen = FrozenRows(self._arrays, len(self))
        return self._frozen

    def grow(self, count: int) -> np.ndarray:
        """Add `count` rows; return their numbers, int64."""
        room = len(next(iter(self._arrays.values())))
        if len(self) + count > room:
            # The capacity at least doubles, so that users who arrive one by one are not all copied each time.
            self._extend(max(len(self) + count - room, len(self)))
        self._count += count
        return np.arange(self._count - count, self._count)

    def keep(self, count: int) -> None:
        """Keep the first `count` rows."""
        for array in self._arrays.values():
            array[count : self._count] = 0
        self._count = min(count, self._count)

    def _extend(self, more: int) -> None:
        """Add room for `more` rows, which takes no memory before they are written."""
        for name, array in self._arrays.items():
            longer = np.zeros((len(array) + more, *array.shape[1:]), array.dtype)
            longer[: len(array)] = array
            self._arrays[name] = longer

    def read(self, rows: Any) -> dict[str, np.ndarray]:
        """Return all arrays at `rows`: views of them for a slice."""
        return {name: array[rows] for name, array in self._arrays.items()}

    def write(self, rows: Any, name: str, values: np.ndarray) -> None:
        if self._frozen is not None:
            self._frozen.keep(rows)
        self._arrays[name][rows] = values

    def rows(self, users: np.ndarray | None, entries: int, once: bool = True) -> Any:
        """Return `users` (row numbers; None: all) as an index for `read`, and for `write` if each is distinct (`once`).

        Raises `UserError` for a row out of range, a repeated row, and another number of users than `entries`.
        """
        rows = None if users is None else np.asarray(users, dtype=np.int64)
        count = len(self) if rows is None else len(rows)
        if entries != count:
            raise UserError(f"tracker: found {entries} timestamps for {count} users; expected one each")
        if rows is None:
            return slice(0, count)
        outside = rows[(rows < 0) | (rows >= len(self))]
        if len(outside):
            raise UserError(f"tracker: found row {outside[0]}; expected a row of {len(self)} users")
        if once and len(np.unique(rows)) < count:
            raise UserError("tracker: found a user twice in one call; expected each row of `users` once")
        return rows

    def load(self, uri: str, state: dict[str, Any]) -> int:
        """Replace all by a saved tracker; return its `unknown_items`. Raises as `StateTracker.load` does."""
        file = storage.join(uri, _DESCRIPTION)
        saved = parse(_Saved, storage.read_json(file), file)
        if saved.state != state:
            raise UserError(f"{file}: key 'state': found another definition of states than the policy's")
        forms = {name: (a.dtype.type, (saved.users, *a.shape[1:])) for name, a in self._arrays.items()}
        self._arrays = storage.read_arrays(storage.join(uri, _ARRAYS), forms)
        self._count = saved.users
        self._extend(saved.users)  # now, since replies would wait for it when the next user comes
        return saved.unknown_items


class FrozenTracker(NamedTuple):
    """Users of a tracker as they were at a time; `state` is the definition of their states."""

    rows: FrozenRows
    state: dict[str, Any]
    unknown_items: int

    def save(self, uri: str, take: Take) -> None:
        """Write all users to the new folder `uri`, all or nothing. Raises `UserError` if it exists."""
        saved = _Saved(state=self.state, users=len(self.rows), unknown_items=self.unknown_items)
        with storage.staged(uri, _DESCRIPTION) as folder:
            storage.write_arrays(storage.join(folder, _ARRAYS), self.rows.sliced(take))
            storage.write_json(storage.join(folder, _DESCRIPTION), saved.model_dump())


class _Saved(Settings):
    """tracker.json."""

    model_config = ConfigDict(strict=True)

    schema_version: Literal[3] = 3
    state: dict[str, Any]
    users: NonNegativeInt
    unknown_items: NonNegativeInt
