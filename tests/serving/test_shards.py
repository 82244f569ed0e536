"""The server on Ray Serve: one shard per user, with the state vectors of a single server."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import ray
import yaml
from patience import soon
from platform_desk import Desk, make_policy
from ray import serve
from served import TOKEN, Client

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Kind
from prefrec_ray.serving.requests.bodies import Feedback
from prefrec_ray.serving.shards import ShardSettings, shard_of
from prefrec_ray.serving.state.added import Added

CONFIG = Path(__file__).parents[2] / "cluster" / "serve.yaml"
SHARDS, USERS, LATER = 2, 12, 4_000_000_000_000


@pytest.fixture
def settings(tmp_path: Path) -> ShardSettings:
    make_policy().save(f"{tmp_path}/policy")
    return ShardSettings(policy=f"{tmp_path}/policy", state=f"{tmp_path}/state", shards=SHARDS)


def kill(settings: ShardSettings, number: int) -> None:
    """SIGKILL to the process of a shard, which its claim on the folder names."""
    (claim,) = Path(settings.state).glob(f"{Path(settings.folder(number)).name}.*.claim")
    os.kill(json.loads(claim.read_text())["process"], signal.SIGKILL)


@contextmanager
def deployed(settings: ShardSettings) -> Iterator[Client]:
    """The file that `serve run` takes, with another policy and folder."""
    config = yaml.safe_load(CONFIG.read_text("utf-8"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        config["http_options"]["port"] = port = free.getsockname()[1]
    (application,) = config["applications"]
    application["args"] |= settings.model_dump(mode="json")
    application["runtime_env"] = {"env_vars": {"PREFREC_SERVE_TOKEN": TOKEN}}
    application["deployments"][0]["num_replicas"] = 1
    file = Path(settings.state).with_name("serve.yaml")
    file.write_text(yaml.safe_dump(config))
    address = ray.get_runtime_context().gcs_address
    command = [str(Path(sys.executable).with_name("serve")), "run", str(file), f"--address={address}", "--non-blocking"]
    try:
        subprocess.run(command, check=True, capture_output=True)
        ends = time.monotonic() + soon(100)
        while serve.status().applications[application["name"]].status != "RUNNING":
            assert time.monotonic() < ends
            time.sleep(0.2)
        yield Client(port)
    finally:
        serve.shutdown()


@pytest.mark.cluster
def test_a_users_events_lie_on_one_shard_and_states_are_those_of_one_server(
    ray_session: None, settings: ShardSettings, tmp_path: Path
) -> None:
    logs: dict[int, set[str]] = {user: set() for user in range(USERS)}
    with deployed(settings) as client:
        new = {"items": [{"id": 1000, "embedding": [0.5, 0.25, -1.0]}]}
        assert client.ask("PUT", "/items", new) == (200, {"items": 1})
        for turn in range(4):
            for user in logs:
                now = 1_700_000_000_000 + turn * 10**8 + user
                shown = client.post("/recommend", user=user, k=2, timestamp=now)
                logs[user].add(shown["event_id"].split("-")[0])
                body = {"event_id": shown["event_id"], "item": shown["items"][1], "feedback": {"like": user % 2}}
                details = {"timestamp": now + 5, "dwell_ms": 100.0 * turn, **({"user": user} if turn % 2 else {})}
                assert client.post("/feedback", **body, **details)["status"] == "counted"
                assert client.post("/feedback", **body)["status"] == "known"
        own = {"event_id": "mine", "user": 3, "item": 1000, "feedback": {"watch": 0.5}, "timestamp": now}
        assert client.post("/feedback", **own)["status"] == "counted"

        stranger = {"event_id": shown["event_id"], "user": 0, "item": shown["items"][0], "feedback": {}}
        assert client.ask("POST", "/feedback", stranger)[0] == 422
        assert client.ask("POST", "/feedback", {"event_id": "unknown", "feedback": {}})[0] == 404
        assert client.ask("POST", "/recommend", {"user": 1.5})[0] == 422
        assert client.ask("GET", "/nope")[0] == 404
        assert Client(client.port, token=None).ask("POST", "/recommend", {"user": 1})[0] == 401
        assert client.ask("POST", "/reload")[1]["changed"] is False
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        idle = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(2_000)]
        for connection in idle[::2]:
            connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        status, health = Client(client.port, token=None).ask("GET", "/healthz")
        assert client.raw("HEAD", "/healthz", None, {})[::2] == (200, b"")
        for connection in idle:
            connection.close()
        assert (status, health["users"]) == (200, USERS)
        metrics = client.ask("GET", "/metrics")[1]
        counted = re.findall(r'prefrec_serve_feedback_total{outcome="counted",shard="(.)"} (\S+)', metrics)
        assert sum(float(number) for _, number in counted) == 4 * USERS + 1
        assert client.ask("DELETE", "/items", {"ids": [1000]}) == (200, {"items": 1, "unknown": 0})

        kill(settings, shard_of(user, SHARDS))  # the shard of the last user restarts with its files
        other = next(one for one in logs if shard_of(one, SHARDS) != shard_of(user, SHARDS))
        assert client.ask("POST", "/recommend", {"user": other})[0] == 200
        answer, limit = (503, {}), time.monotonic() + soon(100)
        while answer[0] == 503:  # or it waits, longer than the client does
            assert time.monotonic() < limit
            time.sleep(0.2)
            with suppress(OSError):
                answer = client.ask("POST", "/feedback", body)
        assert answer[1]["status"] == "known"

    one, states = Desk(settings.policy, tmp_path / "one"), {}
    one.opened.state.put_items({1000: Added(np.array([0.5, 0.25, -1.0], np.float32), {})})
    one.opened.state.stock()
    for number in range(SHARDS):
        assert list(Path(settings.folder(number), "snapshots").iterdir())  # it was ended in order
        desk = Desk(settings.policy, settings.folder(number))
        mine = [user for user in logs if shard_of(user, SHARDS) == number]
        assert {logs[user].pop() for user in mine} == {desk.opened.log_id}
        states |= desk.states(LATER)
        for row in (row for table in desk.engine.log.tables() for row in table.to_pylist()):
            if row["kind"] == Kind.FEEDBACK:
                values = dict(zip(("like", "watch"), row["feedback"], strict=True))
                details = {name: row[name] for name in ("timestamp", "dwell_ms")}
                body = {
                    "event_id": f"own {number} {row['number']}",
                    "user": row["user_number"],
                    "item": row["items"][0],
                }
                one.one(Feedback(**body, **details, feedback=values), clock=row["timestamp"])
        desk.stop()
    assert not any(logs.values())  # all of a user's events were of one shard
    expected = one.states(LATER)
    assert {user: state.tobytes() for user, state in states.items()} == {
        user: state.tobytes() for user, state in expected.items()
    }


def test_users_are_dealt_evenly_and_alike_every_time() -> None:
    counts = np.bincount([shard_of(user, 4) for user in range(2_000)])
    assert counts.min() > 400
    assert [shard_of(f"user {n}", 4) for n in range(8)] == [3, 3, 2, 2, 2, 0, 2, 1]
    assert [shard_of(n, 4) for n in range(8)] == [2, 3, 2, 2, 0, 0, 3, 1]


def test_another_number_of_shards_is_refused(settings: ShardSettings) -> None:
    Path(settings.folder(1)).mkdir(parents=True)
    more = settings.model_copy(update={"shards": 3})
    with pytest.raises(UserError, match=r"shards: found 3; expected .* of .*state, which has .*shard-0001-of-0002"):
        more.check_number()
    settings.check_number()
