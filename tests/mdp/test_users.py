"""A tracker's file: whole or not at all, and every bad one named in one line, with the tracker left as it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mdp_histories import DEFINITION, ITEMS, profiles
from state_definitions import changed

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.mdp.tracker import StateTracker

NOW = np.array([1_700_000_000_000, 1_700_000_300_000, 1_700_000_400_000])


def make_tracker(count: int, definition: StateDefinition = DEFINITION) -> StateTracker:
    normaliser = Normaliser(np.zeros(definition.width), np.ones(definition.width))
    return StateTracker(definition, normaliser, ITEMS, profiles(count))


def filled(session_ids: list[int] | None = None) -> StateTracker:
    tracker = make_tracker(3)
    feedback = {"click": np.array([1.0, 0.0, 1.0]), "watch": np.array([3.0, 4.0, 5.0])}
    ids = None if session_ids is None else np.array(session_ids)
    for step, items in enumerate(([10, 20, 30], [40, 40, 77])):
        tracker.observe(NOW + step, np.array(items), feedback, ids)
    return tracker


@pytest.mark.parametrize("ids", [None, [1, 2, 3]])
def test_users_come_back_as_they_were(tmp_path: Path, ids: list[int] | None) -> None:
    tracker, again = filled(ids), make_tracker(0)
    tracker.save(str(tmp_path / "saved"))
    again.load(str(tmp_path / "saved"))
    assert (len(again), again.unknown_items) == (3, 1)
    user_ids = None if ids is None else np.array(ids)
    for now in (NOW + 10, NOW + 10**8):
        assert again.states(now, user_ids).tobytes() == tracker.states(now, user_ids).tobytes()
    assert again.grow(profiles(2)).tolist() == [3, 4]  # and go on
    with np.load(tmp_path / "saved" / "users.npz", allow_pickle=False) as arrays:
        assert {array.dtype.kind for array in arrays.values()} == {"f", "i"}
        assert arrays["profile"].dtype == np.float32


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="already exists"):
        filled().save(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_save_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_json", no_space)
    with pytest.raises(OSError, match="No space"):
        filled().save(str(tmp_path / "saved"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "tracker.json",
            {"users": 4},
            r"users\.npz: array 'requests' is int64 of shape \[3\]; expected int64 of \[4\]",
        ),
        ("tracker.json", {"users": -1}, r"tracker\.json: key 'users'"),
        ("tracker.json", {"users": True}, r"tracker\.json: key 'users'"),
        ("tracker.json", {"schema_version": 1}, r"tracker\.json: key 'schema_version'"),
        ("tracker.json", {"state": {}}, r"tracker\.json: key 'state': found another definition"),
        ("tracker.json", {"usrs": 3}, r"tracker\.json: key 'usrs': unknown key; did you mean 'users'"),
        ("users.npz", {"first": None}, r"users\.npz: arrays 'first' are missing"),
        (
            "users.npz",
            {"first": np.zeros(3)},
            r"users\.npz: array 'first' is float64 of shape \[3\]; expected int64 of \[3\]",
        ),
    ],
)
def test_bad_files_are_one_line_and_change_nothing(
    tmp_path: Path, file: str, change: dict[str, Any], words: str
) -> None:
    filled().save(str(tmp_path / "saved"))
    path = tmp_path / "saved" / file
    if file == "tracker.json":
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    else:
        arrays = {**storage.read_arrays(str(path)), **change}
        storage.write_arrays(str(path), {name: array for name, array in arrays.items() if array is not None})
    tracker = filled([1, 2, 3])
    before = tracker.states(NOW + 10**8)
    with pytest.raises(UserError, match=words):
        tracker.load(str(tmp_path / "saved"))
    assert len(tracker) == 3
    assert tracker.states(NOW + 10**8).tobytes() == before.tobytes()


def test_users_of_another_definition_are_refused(tmp_path: Path) -> None:
    filled().save(str(tmp_path / "saved"))
    with pytest.raises(UserError, match="key 'state': found another definition of states than the policy's"):
        make_tracker(0, changed(DEFINITION, session_gap_ms=1)).load(str(tmp_path / "saved"))
    with pytest.raises(UserError, match=r"nowhere/tracker\.json: no such file"):
        make_tracker(0).load(str(tmp_path / "nowhere"))
