"""The log on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.logs.sources import SimulatorSource
from prefrec_ray.settings import parse
from prefrec_ray.simulator.catalogue import CATEGORIES
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.settings import BLOCK, SimulateSettings, WorldSettings
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import log_block, simulate

SETTINGS = SimulateSettings(users=3 * BLOCK + 40, requests=40, items=200, seed=5, shards=3)


@pytest.fixture(scope="module")
def logs(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("simulate") / "logs"
    simulate(SETTINGS, str(output))
    return output


def interactions(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted((folder / "interactions").iterdir()))


def test_schema(logs):
    table = interactions(logs)
    assert table.schema.names == ["user_id", "item_id", "timestamp", "propensity", *FEEDBACK]
    assert table.schema.types == [pa.int64()] * 3 + [pa.float32()] * (1 + len(FEEDBACK))
    assert table.num_rows == int(World(SETTINGS).traits(np.arange(SETTINGS.users)).requests.sum())
    counts = np.unique(table["user_id"].to_numpy(), return_counts=True)[1]
    assert len(counts) == SETTINGS.users
    assert counts.min() >= 0.8 * 40
    assert counts.max() <= 80
    assert counts.mean() == pytest.approx(40, rel=0.03)

    users = pq.read_table(logs / "users.parquet")
    assert users.schema.names == ["user_id", *CATEGORIES]
    assert users["user_id"].to_pylist() == list(range(SETTINGS.users))
    for name, categories in CATEGORIES.items():
        assert set(users[name].drop_null().to_pylist()) <= set(categories)

    items = pq.read_table(logs / "items.parquet")
    assert items["embedding"].type == pa.list_(pa.float32(), 8)
    assert items["item_id"].to_pylist() == list(range(200))
    assert np.abs(items["embedding"].combine_chunks().flatten().to_numpy()).max() <= 1


def test_log_json_tells_all_that_prepare_and_rollouts_need(logs):
    log = json.loads((logs / "log.json").read_text())
    assert (log["schema_version"], log["kind"], log["reward"]) == (1, "simulator", None)
    assert log["feedback"] == list(FEEDBACK)
    assert log["user_features"] == {name: list(categories) for name, categories in CATEGORIES.items()}
    assert log["counts"] == {
        "users": SETTINGS.users,
        "items": 200,
        "interactions": interactions(logs).num_rows,
    }
    assert parse(SimulateSettings, log["world"], "log.json") == SETTINGS


@pytest.mark.parametrize("shards", [1, 2, 99])
def test_the_same_rows_whatever_the_number_of_shards(logs, tmp_path, shards):
    simulate(SETTINGS.model_copy(update={"shards": shards}), str(tmp_path / "again"))
    files = list((tmp_path / "again" / "interactions").iterdir())
    assert len(files) == min(shards, 4)
    assert interactions(tmp_path / "again").combine_chunks().equals(interactions(logs).combine_chunks())
    for name in ("users.parquet", "items.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (logs / name).read_bytes()


def test_a_world_with_rules_is_the_same_in_any_number_of_files_and_tells_when_items_may_be_shown(ray_session, tmp_path):
    rules = WorldSettings(no_repeats=True, tiring=2.0, drift=0.3, tastes=2, new_items=0.1, leaving=0.1)
    settings = SimulateSettings(users=2 * BLOCK + 40, requests=20, items=300, seed=5, world=rules)
    for shards in (1, 3):
        simulate(settings.model_copy(update={"shards": shards}), str(tmp_path / str(shards)))
    log = interactions(tmp_path / "1")
    assert log.combine_chunks().equals(interactions(tmp_path / "3").combine_chunks())
    items = pq.read_table(tmp_path / "1" / "items.parquet").to_pandas()
    assert list(items) == ["item_id", "embedding", "from_ms", "until_ms"]
    assert items.until_ms.isna().sum() == 75
    shown = items.loc[log["item_id"].to_numpy()]
    assert (shown.from_ms.to_numpy() <= log["timestamp"].to_numpy()).all()
    assert (log["timestamp"].to_numpy() < shown.until_ms.fillna(np.inf).to_numpy()).all()
    opened_log = SimulatorSource(kind="simulator", path=str(tmp_path / "1")).open_log(seed=0)
    assert opened_log.has_propensity
    assert opened_log.items.column_names == ["item_id", "embedding"]


def test_pages_are_read_with_their_unexamined_items_or_without(ray_session, tmp_path):
    settings = SimulateSettings(users=60, requests=20, items=100, page=3)
    simulate(settings, str(tmp_path / "logs"))
    for examined in (False, True):
        opened = SimulatorSource(kind="simulator", path=str(tmp_path / "logs"), examined=examined).open_log(seed=0)
        assert opened.has_pages
        assert opened.has_examined is examined
        assert opened.rows == interactions(tmp_path / "logs").num_rows


def test_another_seed_is_another_world(logs, tmp_path):
    simulate(SETTINGS.model_copy(update={"seed": 6}), str(tmp_path / "other"))
    assert not interactions(tmp_path / "other")["item_id"].equals(interactions(logs)["item_id"])
    assert (tmp_path / "other" / "items.parquet").read_bytes() != (logs / "items.parquet").read_bytes()


def test_the_truth_is_one_more_column_and_changes_nothing_else(logs, tmp_path):
    stages = []
    simulate(
        SETTINGS.model_copy(update={"truth": True}), str(tmp_path / "truth"), lambda *report: stages.append(report)
    )
    table = interactions(tmp_path / "truth")
    assert json.loads((tmp_path / "truth" / "log.json").read_text())["reward"] == "satisfaction"
    satisfaction = table["satisfaction"].to_numpy()
    assert 0 < satisfaction.min() < 0.2 < 0.8 < satisfaction.max() < 1
    assert table.drop_columns("satisfaction").equals(interactions(logs))
    assert stages[-1] == ("simulate: files", SETTINGS.shards, SETTINGS.shards)


def test_users_are_sorted_by_time_and_start_within_four_weeks(logs):
    table = interactions(logs)
    user, time = table["user_id"].to_numpy(), table["timestamp"].to_numpy()
    assert np.all(np.diff(user) >= 0)
    assert np.all((np.diff(time) > 0) | (np.diff(user) > 0))
    starts = time[np.r_[True, np.diff(user) > 0]]
    assert np.ptp(starts) < 28 * 86_400_000


def test_an_output_that_exists_stays_as_it_is(logs):
    before = (logs / "log.json").read_bytes()
    with pytest.raises(UserError, match="already exists"):
        simulate(SETTINGS, str(logs))
    assert (logs / "log.json").read_bytes() == before


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"users": 0}, "key 'users': expected greater than or equal to 1, found 0"),
        ({"user": 5}, "key 'user': unknown key; did you mean 'users'?"),
        ({"world": {"leaving": 1.5}}, "key 'world.leaving': expected less than or equal to 1, found 1.5"),
        ({"world": {"taste": 2}}, "key 'world.taste': unknown key; did you mean 'tastes'?"),
        ({"world": {"tiring": 1e300}}, "key 'world.tiring': expected less than or equal to 1000000"),
    ],
)
def test_bad_settings_are_one_line(section, message):
    with pytest.raises(UserError) as error:
        parse(SimulateSettings, section, "config.yaml: simulate")
    assert str(error.value).startswith(f"config.yaml: simulate: {message}")
    assert "\n" not in str(error.value)


def test_users_who_come_back_too_late_are_one_line():
    world = World(SimulateSettings(users=20, requests=500, items=20))
    world.gap_hours = 8784.0
    with pytest.raises(UserError, match="simulate: found users who come back after 2199; expected fewer requests"):
        log_block(world, 0)
