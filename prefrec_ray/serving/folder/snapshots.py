"""Snapshots of the server state on disk. After a restart, a server reads only the later rows of its log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import SEGMENTS
from prefrec_ray.logs.events.segments import any_removal
from prefrec_ray.mdp.frozen import FrozenRows, Take, at_once
from prefrec_ray.mdp.users import FrozenTracker
from prefrec_ray.serving.state.added import Added
from prefrec_ray.serving.state.counted_feedback import FrozenAnswered
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.serving.state.users import FrozenUsers
from prefrec_ray.storage import SlicedArray
from prefrec_ray.storage.checksums import damage, seal

FOLDER = "snapshots"
_DESCRIPTION, _ARRAYS, _VERSION = "state.json", "arrays.npz", 6
#: Entries of lists that are encoded by one call.
_AT_ONCE = 4096


@dataclass(frozen=True)
class Snapshot:
    """The server state at row `next`, frozen: it is copied while later rows are applied, until `write` returns."""

    next: int
    users: FrozenUsers
    answered: FrozenAnswered
    positive: FrozenRows
    trackers: dict[str, FrozenTracker]
    codes: np.ndarray  # ids of items, by code
    items: dict[str, list[Any]]
    embeddings: list[np.ndarray]

    @classmethod
    def from_state(cls, state: ServedState) -> Snapshot:
        """Freeze `state`, whose rows are all on the disk. An earlier snapshot of it must be written, or ended."""
        items: dict[str, list[Any]] = {
            "put": list(state.put),
            "categories": [dict(one.categories) for one in state.put.values()],
            "withdrawn": list(state.withdrawn),
        }
        trackers = {key: tracker.freeze() for key, tracker in state.observers.items()}
        embeddings = [one.embedding for one in state.put.values()]
        users, answered, positive = state.users.freeze(), state.answered.freeze(), state.freeze_positive()
        return cls(state.next, users, answered, positive, trackers, state.codes.ids, items, embeddings)

    def write(self, folder: str, take: Take = at_once) -> None:
        """Write it below `folder`, whole or not at all, readable only by its owner, and remove all others.

        The caller is the only writer, so claims there are remains of killed servers. `take` runs the functions that
        copy slices of the state.
        """
        name = f"{self.next:015d}"
        try:
            if not storage.exists(storage.join(folder, FOLDER, name)):
                self._write(storage.join(folder, FOLDER, name), take)
        finally:
            self.end()
        snapshots = storage.join(folder, FOLDER)
        for old in (*storage.list_folders(snapshots), *storage.list_files(snapshots)):
            if not old.endswith(f"/{name}"):
                storage.remove(old)

    def end(self) -> None:
        """Release the memory."""
        self.users.end()
        for rows in (self.answered.bits, self.positive, *(tracker.rows for tracker in self.trackers.values())):
            rows.end()

    def _write(self, target: str, take: Take) -> None:
        described = {
            "schema_version": _VERSION,
            "next": self.next,
            "ids": self.users.ids,
            "codes": self.codes,
            **self.items,
            "answered": self.answered.described(),
        }
        arrays = {
            **self.users.sliced(take),
            **self.answered.bits.sliced(take),
            **self.positive.sliced(take),
            "put": _stacked(self.embeddings),
        }
        with storage.private(), storage.staged(target, _DESCRIPTION) as partial:
            for key, tracker in self.trackers.items():
                tracker.save(storage.join(partial, key), take)
            storage.write_arrays(storage.join(partial, _ARRAYS), arrays)
            storage.write_text(storage.join(partial, _DESCRIPTION), _json_of(described))
            seal(partial)


def _stacked(embeddings: list[np.ndarray]) -> SlicedArray:
    """Return equally long embeddings as an array float32."""
    parts = (np.array(embeddings[at : at + _AT_ONCE], np.float32) for at in range(0, len(embeddings), _AT_ONCE))
    shape = np.array(embeddings[:1], np.float32).shape[1:]
    return SlicedArray(np.dtype(np.float32), (len(embeddings), *shape), parts)


def _json_of(values: dict[str, Any]) -> str:
    """Return JSON. Other threads wait for each call of `json.dumps`, so that long lists have several calls."""
    return f"{{{', '.join(f'{json.dumps(name)}: {_value(one)}' for name, one in values.items())}}}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _json_of(value)
    if not isinstance(value, list | np.ndarray):
        return json.dumps(value)
    slices = (value[at : at + _AT_ONCE] for at in range(0, len(value), _AT_ONCE))
    parts = (json.dumps(one if isinstance(one, list) else one.tolist())[1:-1] for one in slices)
    return f"[{', '.join(parts)}]"


def remove_snapshots(folder: str) -> int:
    """Remove all snapshots below `folder`; return their number. The next start reads the whole log."""
    snapshots = storage.join(folder, FOLDER)
    found = len(storage.list_folders(snapshots))
    storage.remove(snapshots)
    return found


def restore(folder: str, state: ServedState, rows: int) -> str | None:
    """Load the newest snapshot below `folder`, if any, into a new `state`.

    Return a line if it cannot be used; the whole log is then read, and nothing is lost. Raises `UserError` if the log
    is shorter than the snapshot, since other users would get the numbers of the missing rows.
    """
    found = storage.list_folders(storage.join(folder, FOLDER))
    # The next snapshot removes a folder that a killed process left half-written; the previous one is whole.
    snapshots = [one for one in found if not one.endswith(".partial")]
    if not snapshots:
        return None
    newest = snapshots[-1]
    name = newest.rpartition("/")[2]
    if name.isdigit() and int(name) > rows:
        raise UserError(
            f"{storage.join(folder, SEGMENTS)}: rows are missing: found {rows}; expected at least {int(name)}, as in"
            f" {newest} (put the files of the log back from a copy)"
        )
    flaw = damage(newest)  # a flipped digit of an id would give a user's history to another user
    if flaw is None:
        described = storage.read_json(storage.join(newest, _DESCRIPTION))
        if described["schema_version"] != _VERSION:
            flaw = "found another version"
        elif not all(storage.exists(storage.join(newest, key)) for key in state.observers):
            flaw = "found policies with other states"
        elif any_removal(folder, described["next"]):  # a snapshot that was put back from a copy
            flaw = "older than a removal of users"
    if flaw is not None:
        return f"{newest}: {flaw}; the whole log is read"
    arrays = storage.read_arrays(storage.join(newest, _ARRAYS))
    for key, tracker in state.observers.items():
        tracker.load(storage.join(newest, key))
    state.answered.load(described["answered"], arrays["bits"])
    added = map(Added, arrays["put"], described["categories"])
    state.put_items(dict(zip(described["put"], added, strict=True)))
    state.withdraw_items(described["withdrawn"])
    # Codes depend on the bundles and on the order in which items were added, so items are found by their ids.
    codes = state.codes.find(state.codes.typed(described["codes"]))
    state.users.load(described["ids"], {**arrays, "seen": codes[arrays["seen"]]})
    np.add.at(state.positive, codes[codes >= 0], arrays["positive"][codes >= 0])
    state.next = described["next"]
    return None
