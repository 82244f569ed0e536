"""State vectors of a server equal `prepare` on its events bit for bit, propensities included."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from platform_desk import Desk

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.logs.events import log as log_module
from prefrec_ray.logs.events.format import Kind
from prefrec_ray.logs.events.segments import compact
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.settings import parse


def policy_of(data: PreparedDataset) -> Policy:
    width, dim = data.state.width, data.state.action_dim
    actor = DeterministicActor(mlp(width, [8], dim).requires_grad_(False), -np.ones(dim), np.ones(dim))
    critic = Critic([QFunction(mlp(width + dim, [8], 1).requires_grad_(False), (), dim)])
    return Policy(actor, data.state, data.normaliser, data.items(), ServingSettings(rest_days=0.0), critic=critic)


def requests_of(data: PreparedDataset) -> pa.Table:
    files = [file for split in ("train", "validation", "test") for file in data.files("requests", split)]
    return pa.concat_tables([data.read(file) for file in files])


def files_of(folder: str) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


def test_states_and_propensities_are_those_of_prepare(
    small_platform: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prepared data set does not change if older files of the log are compacted to Parquet."""
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 100_000)
    first = PreparedDataset.open(str(small_platform / "dataset"))
    policy_of(first).save(f"{tmp_path}/policy")

    features = first.state.user_features
    name, categories = next(iter(features.items()))
    desk = Desk(f"{tmp_path}/policy", f"{tmp_path}/state")
    rng, users = np.random.default_rng(0), 50
    clock = np.full(users, 1_700_000_000_000) + rng.integers(0, 10**9, users)
    served: dict[tuple[int, int], tuple[np.ndarray, float, int]] = {}
    steps = np.zeros(users, np.int64)
    names = first.state.feedback
    for turn in range(450):
        if turn % 150 == 149:  # from a snapshot, and without one
            desk.stop(save=turn < 250)
            desk = Desk(f"{tmp_path}/policy", f"{tmp_path}/state")
        active_users = rng.choice(users, int(rng.integers(1, 6)), replace=False)
        clock[active_users] += rng.choice([0, 1, 900, 60_000, 3_600_000, 10**8], len(active_users))
        bodies = [
            Recommend(
                user=int(user),
                k=1,
                timestamp=int(clock[user]),
                features={name: str(rng.choice(categories))} if steps[user] == 0 and user % 3 else None,
            )
            for user in active_users
        ]
        if turn % 50 == 7:  # a clock that jumps back: the server's time of a user does not
            bodies[0] = bodies[0].model_copy(update={"timestamp": int(clock[active_users[0]]) - 10**7})
        answers = [answer.body for answer in desk.do(*bodies, clock=int(clock.max()))]
        rows = [desk.engine.state.users.find(int(user)) for user in active_users]
        now = np.array([desk.engine.log.read(int(a["event_id"].split("-")[1], 16))["timestamp"] for a in answers])
        states = desk.engine.state.trackers[0].states(now, users=np.array(rows))
        feedback = []
        for user, answer, state in zip(active_users.tolist(), answers, states, strict=True):
            values = {name: float(np.float32(rng.random())) for name in names}
            dwell = None if rng.random() < 0.3 else float(rng.integers(0, 10**5))
            feedback.append(Feedback(event_id=answer["event_id"], feedback=values, dwell_ms=dwell))
            served[user, int(steps[user])] = state, answer["propensities"][0], answer["items"][0]
            steps[user] += 1
        again = [feedback[0]] if turn % 9 == 0 else []
        status = [answer.body["status"] for answer in desk.do(*feedback, *again)]
        assert status == ["counted"] * len(feedback) + ["known"] * len(again)
        if turn % 40 == 0:  # an item without an embedding: not an impression
            desk.one(Feedback(event_id=f"own {turn}", user=int(active_users[0]), item=10**6 + turn, feedback={}))
    assert steps.min() > 3

    source = {"kind": "events", "path": f"{tmp_path}/state"}
    settings = parse(PrepareSettings, {"source": source, "like": first.uri, "partitions": 2}, "test")
    data = prepare(settings, f"{tmp_path}/second")
    requests = requests_of(data)
    assert len(requests) == len(served) == steps.sum()
    states = requests["state"].combine_chunks().flatten().to_numpy().reshape(len(requests), -1)
    for row, (user, step, chance, item) in enumerate(
        zip(*(requests[column].to_pylist() for column in ("user_id", "step", "propensity", "item_id")), strict=True)
    ):
        state, propensity, shown = served[user, step]
        assert states[row].tobytes() == state.tobytes(), (user, step)
        assert (np.float32(propensity), shown) == (np.float32(chance), item)
    assert compact(f"{tmp_path}/state", 4e9) > 1
    prepare(settings, f"{tmp_path}/third")
    assert files_of(f"{tmp_path}/third") == files_of(f"{tmp_path}/second")
    assert Kind.FEEDBACK == 2


def test_states_before_pages_are_those_of_prepare(small_platform: Path, tmp_path: Path) -> None:
    """Users react to some items of a page, in any order and in one or several HTTP requests. Some pages have a pin."""
    shutil.copytree(small_platform / "dataset", tmp_path / "first")
    metadata = json.loads((tmp_path / "first" / "metadata.json").read_text())
    metadata["state"]["pages"] = True
    (tmp_path / "first" / "metadata.json").write_text(json.dumps(metadata))
    first = PreparedDataset.open(f"{tmp_path}/first")
    policy_of(first).save(f"{tmp_path}/policy")
    desk = Desk(f"{tmp_path}/policy", f"{tmp_path}/state")
    rng, users, clock = np.random.default_rng(0), 30, 1_700_000_000_000
    steps, served = np.zeros(users, np.int64), {}
    name, categories = next(iter(first.state.user_features.items()))
    for turn in range(240):
        if turn == 160:
            desk.stop(save=True)
            desk = Desk(f"{tmp_path}/policy", f"{tmp_path}/state")
        clock += int(rng.choice([0, 900, 60_000, 3_600_000]))
        user = int(rng.integers(users)) if turn >= users else turn
        features = {name: categories[0]} if turn < users else None
        pins = [(1, int(rng.choice(first.items().ids)))] if turn % 4 == 1 else []
        page = desk.one(Recommend(user=user, k=3, timestamp=clock, features=features, pins=pins), clock)
        row = desk.engine.state.users.find(user)
        state = desk.engine.state.trackers[0].states(np.array([clock]), users=np.array([row]))[0]
        liked = rng.permutation(3)[: int(rng.integers(0, 4))].tolist()
        for at in liked:
            values = {column: float(np.float32(rng.random())) for column in first.state.feedback}
            body = Feedback(event_id=page["event_id"], item=page["items"][at], feedback=values, dwell_ms=1000.0 * turn)
            desk.one(body, clock)
        if liked:
            served[user, int(steps[user])] = state, page, liked
            steps[user] += 1
    settings = parse(
        PrepareSettings,
        {"source": {"kind": "events", "path": f"{tmp_path}/state"}, "like": first.uri, "partitions": 2},
        "test",
    )
    requests = requests_of(prepare(settings, f"{tmp_path}/second"))
    states = requests["state"].combine_chunks().flatten().to_numpy().reshape(len(requests), -1)
    rows = requests.drop_columns(["state", "action", "feedback"]).to_pylist()
    assert {(row["user_id"], row["step"]) for row in rows} == served.keys()
    for row, found in zip(rows, states, strict=True):
        state, page, _ = served[row["user_id"], row["step"]]
        assert found.tobytes() == state.tobytes()
        assert row["item_id"] == page["items"][row["position"]]
        propensity = page["propensities"][row["position"]]
        assert row["pinned"] == (propensity is None)
        assert row["propensity"] == (None if propensity is None else np.float32(propensity))
    assert any(row["pinned"] for row in rows)
    assert len(rows) == sum(len(liked) for _, _, liked in served.values())
