"""Snapshots of the server state on disk. After a restart, a server reads only the later rows of its log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import SEGMENTS
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.storage.checksums import damage, seal

FOLDER = "snapshots"
_DESCRIPTION, _ARRAYS, _VERSION = "state.json", "arrays.npz", 4


@dataclass(frozen=True)
class Snapshot:
    """Copy of the server state at row `next`; it does not change any more."""

    next: int
    described: dict[str, Any]
    arrays: dict[str, np.ndarray]
    trackers: dict[str, StateTracker]

    @classmethod
    def from_state(cls, state: ServedState) -> Snapshot:
        """Return a snapshot of `state`; everything that changes is copied."""
        users, arrays = state.users.save()
        answered = state.answered.save()
        arrays = {
            **arrays,
            "bits": answered.pop("bits").copy(),
            "put": np.array(list(state.put.values()), np.float32),
            "positive": state.positive.copy(),
        }
        described = {
            "schema_version": _VERSION,
            "next": state.next,
            **users,
            "more": state.codes.ids[len(state.codes.base) :].tolist(),
            "answered": answered,
            "put": list(state.put),
            "withdrawn": list(state.withdrawn),
        }
        trackers = {key: tracker.copy() for key, tracker in state.observers.items()}
        return cls(state.next, described, arrays, trackers)

    def write(self, folder: str) -> None:
        """Write it below `folder`, whole or not at all, readable only by its owner, and remove older snapshots."""
        name = f"{self.next:015d}"
        if not storage.exists(storage.join(folder, FOLDER, name)):
            target = storage.join(folder, FOLDER, name)
            with storage.private(), storage.staged(target, _DESCRIPTION) as partial:
                for key, tracker in self.trackers.items():
                    tracker.save(storage.join(partial, key))
                storage.write_arrays(storage.join(partial, _ARRAYS), self.arrays)
                storage.write_text(storage.join(partial, _DESCRIPTION), json.dumps(self.described))
                seal(partial)
        for old in storage.list_folders(storage.join(folder, FOLDER)):
            if not old.endswith(name):
                storage.remove(old)


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
    if flaw is not None:
        return f"{newest}: {flaw}; the whole log is read"
    arrays = storage.read_arrays(storage.join(newest, _ARRAYS))
    for key, tracker in state.observers.items():
        tracker.load(storage.join(newest, key))
    state.answered.load({**described["answered"], "bits": arrays["bits"]})
    state.put_items(dict(zip(described["put"], arrays["put"], strict=True)))
    state.withdraw_items(described["withdrawn"])
    # Codes depend on the bundles and on the order in which items were added, so items are found by their ids.
    before = np.concatenate([state.codes.base.ids, state.codes.array(described["more"])])
    codes = state.codes.find(before)
    state.users.load(described, {**arrays, "seen": codes[arrays["seen"]]})
    np.add.at(state.positive, codes[codes >= 0], arrays["positive"][codes >= 0])
    state.next = described["next"]
    return None
