"""A platform that has no policy yet: its recommender is logged over HTTP, and the first night trains on this log."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from served import Client, serving
from small_platform import NETWORKS

from prefrec_ray.cli.main import run
from prefrec_ray.nightly.folder import LoopFolder

USERS, SESSIONS, ITEMS = 36, 10, 40
HOUR_MS = 3_600_000


def write_loop(folder: Path) -> Path:
    """Write the platform's table of items, without a row for item 0, and the YAML of the loop."""
    rng, dim = np.random.default_rng(0), 4
    embeddings = rng.uniform(-1, 1, (ITEMS, dim)).tolist()
    category = [None, *(("news", "pop")[item % 2] for item in range(1, ITEMS))]
    items = pa.table({"id": range(ITEMS), "vector": embeddings, "category": pa.array(category)})
    pq.write_table(items, folder / "items.parquet")
    table = {"path": str(folder / "items.parquet"), "id": "id", "embedding": "vector", "features": ["category"]}
    sections = {
        "prepare": {
            "source": {"kind": "events", "path": str(folder / "log"), "items": table},
            "train_fraction": 0.4,
            "validation_fraction": 0.2,
            "preferences": {"pairs": 64, "validation_pairs": 32, "length": 5, "min_requests": 10},
        },
        "train": {"validation": None, "config": {**NETWORKS, "num_epochs": 0.2, "updates_per_iteration": 4}},
        "evaluate": {
            "model": {"models": 2, "users": 10, "requests": 30},
            "guard_rails": ["share[category: pop] >= 1 %"],
        },
        "loop": {"folder": str(folder / "loop"), "canary": {"share": 0.5}},
        "serve": {"incumbent": {"items": table, "feedback": {"like": "binary"}, "rest_days": 0.0}},
    }
    config = folder / "loop.yaml"
    config.write_text(yaml.safe_dump(sections))
    return config


def live(client: Client, user: int, now: int) -> int:
    """Let a user come once a day or so for a few pages, and like items of one category. Returns the impressions."""
    rng = np.random.default_rng(user)
    at, count = now - SESSIONS * 24 * HOUR_MS, 0
    for _ in range(SESSIONS):
        for _ in range(rng.integers(1, 5)):
            items = rng.choice(ITEMS, rng.integers(1, 4), replace=False).tolist()
            count += len(items)
            shown = client.post("/recommend", user=user, timestamp=at, incumbent=items)
            assert (shown["items"], shown["policy"], shown["arm"]) == (items, "incumbent", "main")
            for item in items:
                at += 20_000
                like = float(rng.random() < (0.6 if item % 2 else 0.2))
                client.post("/feedback", event_id=shown["event_id"], item=item, feedback={"like": like}, timestamp=at)
        at += int(rng.uniform(4, 23) * HOUR_MS)
    return count


def test_the_first_night_trains_on_the_log_of_the_incumbent(
    short_fits: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, now = write_loop(tmp_path), round(time.time() * 1000)
    loop = LoopFolder(str(tmp_path / "loop"))
    with serving(loop.current, tmp_path / "log", "--config", str(config)) as server:
        note = f"{loop.current}: no policy yet; users without a canary get items by incumbent\n"
        assert server.output[0] == note
        with ThreadPoolExecutor(6) as pool:
            count = sum(pool.map(lambda user: live(server.client(), user, now), range(USERS)))

        assert run(["plan-test", str(tmp_path / "log"), "--gains", "0.5", "--shares", "0.5"]) == 0
        assert f"{USERS} users in the log" in capfd.readouterr().out
        assert run(["nightly", str(config)]) == 0
        (night,) = loop.nights()
        assert (night.log.requests, night.log.users) == (count, USERS)
        evaluation = json.loads((tmp_path / "loop/nights/0001/run/evaluation.json").read_text())
        ((rail,),) = evaluation["guard_rails"].values()
        # So few users and models decide nothing: the status is not tested.
        assert rail["rail"] == "share[category: pop] >= 1 %"
        assert 0 < rail["value"] < 1

        loop.begin_canary(1, 0.5, now)  # if the verdict did not begin it
        client = server.client()
        policies = client.post("/reload")["policies"]
        assert (set(policies), policies["main"]) == ({"main", "night-1"}, "incumbent")
        replies = [client.post("/recommend", user=user, k=2, incumbent=[3, 5]) for user in range(USERS)]
        by_arm = {arm: [one["items"] for one in replies if one["arm"] == arm] for arm in policies}
        assert all(items == [3, 5] for items in by_arm["main"])
        assert len({tuple(items) for items in by_arm["night-1"]}) > 1

    assert run(["compare", str(tmp_path / "log"), "--config", str(config)]) == 0
    assert "night-1: share[category: pop] >= 1 %: open" in capfd.readouterr().out
