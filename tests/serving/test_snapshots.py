"""Snapshots of users' states: found again beside what a killed process left."""

from pathlib import Path

import pytest
from platform_desk import Desk, make_policy

from prefrec_ray import storage
from prefrec_ray.serving.bodies import Recommend


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Of 40 items."""
    make_policy().save(str(tmp_path / "policy"))
    return tmp_path / "policy"


def names(state: Path) -> list[str]:
    """Of the snapshots of a server."""
    return [folder.rpartition("/")[2] for folder in storage.list_folders(str(state / "snapshots"))]


def test_a_snapshot_that_a_killed_process_left_half_written_does_not_hide_the_one_before(
    policy: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    desk = Desk(policy, state)
    desk.one(Recommend(user=1, k=2))
    desk.stop(save=True)
    (whole,) = names(state)
    storage.make_folder(str(state / "snapshots" / f"{9:015d}.0a1b2c3d.partial"))
    desk = Desk(policy, state)
    assert desk.opened.notes == []
    desk.one(Recommend(user=1, k=2))
    desk.stop(save=True)
    assert names(state) == [f"{int(whole) + 1:015d}"]
