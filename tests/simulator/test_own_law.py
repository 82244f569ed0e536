"""A law in a user's own file: its log, and the mistakes of its name. test_own_files.py runs commands with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from own_law import LAW

from prefrec_ray.errors import UserError
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.simulator.world import World, load_world
from prefrec_ray.simulator.write import log_block, simulate

SETTINGS = {"users": 60, "requests": 30, "items": 30, "seed": 4, "truth": True}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "colors_law.py").write_text(LAW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "colors_law", raising=False)
    return tmp_path


def test_a_log_follows_the_law_of_the_file(folder: Path) -> None:
    settings = parse(SimulateSettings, {**SETTINGS, "world": "colors_law:Colors"}, "own.yaml: simulate")
    log = log_block(load_world(settings), 0).to_pandas()
    assert list(log) == ["user_id", "item_id", "timestamp", "propensity", "like", "satisfaction"]
    assert len(log) == 60 * 30
    assert (log.like == (log.item_id % 3 == log.user_id % 3)).all()
    assert 0.2 < log.like.mean() < 0.45
    for _, own in log.groupby("user_id"):
        gap, liked = np.diff(own.timestamp), own.like.to_numpy()[:-1]
        last = np.arange(1, len(own)) % 3 == 0
        np.testing.assert_array_equal(gap, np.where(last, np.where(liked == 1, 3_600_000, 86_400_000), 10_000))
    # A data set stores the settings as JSON, from which roll-outs make the same world.
    again = parse(SimulateSettings, json.loads(json.dumps(settings.model_dump(mode="json"))), "metadata.json: world")
    assert again == settings


def test_the_mapping_is_the_law_of_the_simulator() -> None:
    assert type(load_world(SimulateSettings())) is World
    assert type(load_world(SimulateSettings(world=WorldSettings(tastes=2)))) is World


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("./colors_law.py:Colors", "found './colors_law.py:Colors'; expected module:Class"),
        (
            "no_such_law:Colors",
            "found 'no_such_law:Colors' (cannot import it: No module named 'no_such_law')",
        ),
        ("colors_law:Shapes", "found 'colors_law:Shapes' (cannot import it: "),
        ("colors_law:Response", "found 'colors_law:Response' without 'feedback'; expected module:Class of a law"),
    ],
)
def test_another_law_is_one_line(folder: Path, law: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_world(SimulateSettings(world=law))
    assert str(caught.value).startswith(f"simulate.world: {message}")
    assert "\n" not in str(caught.value)


def test_nothing_is_written_for_a_law_that_does_not_exist(folder: Path) -> None:
    with pytest.raises(UserError, match=r"simulate\.world: found 'no_such_law:Colors'"):
        simulate(SimulateSettings(world="no_such_law:Colors"), str(folder / "logs"))
    assert not (folder / "logs").exists()


def test_a_law_of_ones_own_has_no_keys_of_the_simulator() -> None:
    with pytest.raises(UserError) as caught:
        parse(SimulateSettings, {"world": {"law": "colors_law:Colors", "tastes": 2}}, "own.yaml: simulate")
    assert str(caught.value).startswith(
        "own.yaml: simulate: key 'world': found 'law' with keys of the simulator's law; expected one of both"
    )
