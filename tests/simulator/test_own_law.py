"""A law in a user's own file: its log is simulated and prepared, and it is rolled out, with nothing changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from prefrec_ray.errors import UserError
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.simulator.world import World, load_world
from prefrec_ray.simulator.write import log_block, simulate

#: Users like items of their own color. A session has three impressions, and the next one starts after one hour if the
#: last item had this color, otherwise after one day.
LAW = """
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from prefrec_ray.simulator.law import Response
from prefrec_ray.simulator.servers import RandomItems

COLORS = np.array(["red", "green", "blue"], dtype=object)


class Colors:
    feedback = ("like",)
    categories = {"color": tuple(COLORS)}
    controls = {"best known": lambda crowd: 1.0 - (crowd.world.color == crowd.color[:, None])}

    def __init__(self, settings):
        self.settings = settings
        self.color = np.arange(settings.items) % 3

    def items(self):
        return pa.table({"item_id": np.arange(self.settings.items), "color": COLORS[self.color]})

    def crowd(self, users, rng):
        return Users(self, users)

    def logging_policy(self, crowd, rng):
        return RandomItems(self.settings.items, rng)


class Users:
    def __init__(self, world, users):
        self.world, self.color, self.step = world, users % 3, 0
        self.features = {"color": COLORS[self.color]}
        self.requests = np.full(len(users), world.settings.requests)
        self.time_ms = 1_704_067_200_000 + 1000 * users
        self.gone = np.zeros(len(users), bool)

    def excluded(self):
        return None

    def show(self, rows):
        likes = self.world.color[rows] == self.color
        self.step += 1
        leaves = np.full(len(rows), self.step % 3 == 0)
        gap = np.where(leaves, np.where(likes, 3_600_000, 86_400_000), 10_000)
        self.time_ms = self.time_ms + gap
        return Response(likes[:, None].astype(np.float32), likes.astype(np.float32), leaves)
"""
SETTINGS = {"users": 60, "requests": 30, "items": 30, "seed": 4, "truth": True}
YAML = """
simulate: {users: 60, requests: 30, items: 30, seed: 4, truth: true, world: "colors_law:Colors"}
prepare:
  source: {kind: simulator, path: logs}
  train_fraction: 0.7
  validation_fraction: 0.2
  preferences: {pairs: 60, validation_pairs: 20, length: 10, min_requests: 25, tasks: [frequency]}
"""
COMMANDS = """
import json
from prefrec_ray.cli.main import run
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.online import RollOut, evaluate_online
assert run("simulate own.yaml --output logs".split()) == 0
assert run("prepare own.yaml --output data".split()) == 0
records = evaluate_online(PreparedDataset.open("data"), {}, ["frequency"], RollOut("train", 40, 30))
values = {record.subject: record.value for record in records}
open("values.json", "w").write(json.dumps(values))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "colors_law.py").write_text(LAW)
    (tmp_path / "own.yaml").write_text(YAML)
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


def test_commands_and_roll_outs_work_with_it(ray_session: None, folder: Path) -> None:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    done = subprocess.run([sys.executable, "-c", COMMANDS], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "logs" / "log.json").read_text())["item_features"] == ["color"]
    assert pq.read_schema(folder / "logs" / "items.parquet").names == ["item_id", "color"]
    values = json.loads((folder / "values.json").read_text())
    assert list(values) == ["behaviour", "random items", "constant action", "best known"]
    # After every session the user is back in an hour instead of sometimes a day.
    assert values["best known"] > 3
    assert values["behaviour"] < 3


def test_the_mapping_is_the_law_of_the_simulator() -> None:
    assert type(load_world(SimulateSettings())) is World
    assert type(load_world(SimulateSettings(world=WorldSettings(tastes=2)))) is World


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("colors_law", "found 'colors_law'; expected one of short_video (or module:Class)"),
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
