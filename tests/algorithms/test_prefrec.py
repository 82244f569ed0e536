"""PrefRec's learner inside RLlib: equal to the plain algorithm, to itself, and for any number of learners."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from plain_algorithm1 import PlainPrefRec
from ray.exceptions import RayError
from ray.rllib.core import DEFAULT_MODULE_ID
from tiny import learner_of

from prefrec_ray.algorithms import PrefRec, PrefRecConfig
from prefrec_ray.algorithms.base.algorithm import on_each_learner
from prefrec_ray.algorithms.feed.shards import ShardCache
from prefrec_ray.algorithms.requests import reward_columns
from prefrec_ray.dataset import tensor
from prefrec_ray.runs.checkpoints import save_checkpoint
from prefrec_ray.settings import RECIPES

NETWORKS = ("reward", "value", "q", "target_q", "actor")
SMALL = {
    "train_batch_size_per_learner": 64,
    "preference_batch_size": 16,
    "hidden_sizes": (16, 16, 16),
    "updates_per_iteration": 10,
    "pretrain_epochs": 1,
    "num_epochs": 2,
    "finetune_reward": True,
}
#: Rates at which 50 steps move the weights by far more than the tolerance.
RATES = {"actor_lr": 3e-4, "critic_lr": 1e-3, "value_lr": 1e-3, "reward_lr": 1e-3}


def config(dataset: str, **settings: Any) -> PrefRecConfig:
    of_learners = {name: settings.pop(name) for name in list(settings) if name.startswith(("num_learners", "num_cpus"))}
    return (
        PrefRecConfig()
        .offline_data(input_=dataset)
        .training(**{"task": "depth", **SMALL, **settings})
        .learners(**of_learners)
        .debugging(seed=5)
    )


@pytest.fixture
def build() -> Iterator[Callable[..., PrefRec]]:
    built: list[PrefRec] = []

    def make(dataset: str, **settings: Any) -> PrefRec:
        built.append(config(dataset, **settings).build_algo())
        return built[-1]

    yield make
    for algorithm in built:
        algorithm.stop()


def weights(algorithm: PrefRec) -> dict[str, np.ndarray]:
    state = algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"]
    return {name: np.array(value) for name, value in state[DEFAULT_MODULE_ID].items()}


def plain_copy(algorithm: PrefRec, **settings: Any) -> PlainPrefRec:
    """The plain algorithm with the learner's networks."""
    net = learner_of(algorithm).net
    nets = {
        name: [
            (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
            for layer in (net.reward.network if name == "reward" else getattr(net, name)).net
            if isinstance(layer, torch.nn.Linear)
        ]
        for name in NETWORKS
    }
    learner = algorithm.config
    names = ("gamma", "expectile", "tau", "actor_lr", "critic_lr", "value_lr", "reward_lr", "reward_input")
    return PlainPrefRec.from_state(
        nets,
        **{name: getattr(learner, name) for name in names},
        reward_columns=np.array(reward_columns(learner.settings, algorithm.offline_data.dataset) or []),
        product_columns=algorithm.offline_data.dataset.state.embedding_parts(learner.settings.q_products),
        finetune_reward=learner.finetune_reward,
        **settings,
    )


def segments(dataset: Any, task: str, teacher: str) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """States, actions and next states of all pairs, cut from the request files one by one."""
    requests: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
    for file in dataset.files("requests", "train"):
        table = pq.read_table(file)
        users, states, actions = table["user_id"].to_numpy(), tensor(table["state"]), tensor(table["action"])
        for user in np.unique(users):
            requests[user] = (states[users == user], actions[users == user])
    pairs = pq.read_table(dataset.path("preferences", task, "train.parquet")).to_pylist()
    pairs = [row for row in pairs if row["teacher"] == teacher]
    sides = []
    for side in (0, 1):
        cut: dict[str, list[np.ndarray]] = {"states": [], "actions": [], "next_states": []}
        for row in pairs:
            states, actions = requests[row[f"user_{side}"]]
            start, stop = row[f"start_{side}"], row[f"start_{side}"] + row["length"]
            cut["states"].append(states[start:stop])
            cut["actions"].append(actions[start:stop])
            cut["next_states"].append(states[start + 1 : stop + 1])
        sides.append({name: np.stack(values) for name, values in cut.items()})
    return sides, np.array([row["label"] for row in pairs], dtype=np.float32)


def take(side: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values[rows]) for name, values in side.items()}


@pytest.mark.parametrize("recipe", ["paper", "robust"])
def test_fifty_steps_equal_the_plain_algorithm(
    tiny_dataset: str, build: Callable[..., PrefRec], monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr("prefrec_ray.algorithms.reward.model.PAIRS_PER_CHUNK", 6)  # of 16: two chunks and a rest
    algorithm = build(
        tiny_dataset,
        recipe=recipe,
        **{**SMALL, "updates_per_iteration": 50, "num_epochs": 3},
        **RATES,
        standardise_reward=False,
        reward_horizon=1,  # labels that look ahead: test_look_ahead.py
        reward_members=1,  # members train independently: test_reward_members.py
        rotations=0.0,  # rotation: test_rotation.py
    )
    data = algorithm.offline_data
    teacher = f"{algorithm.config.pairing}_{algorithm.config.scoring}"
    (side_0, side_1), label = segments(data.dataset, "depth", teacher)
    plain = plain_copy(algorithm)

    position = data.schedule.at(0)
    (plan,) = data.preference_plans(position)
    for index in range(position.count):
        rows = plan.rows(index)
        plain.pretrain_step(take(side_0, rows), take(side_1, rows), torch.from_numpy(label[rows]))
    algorithm.train()

    position = data.schedule.at(1)
    assert position.count == 50
    (plan,) = data.sample(position)
    before = weights(algorithm)
    for index, batch in enumerate(plan.transitions.batches(torch.device("cpu"), ShardCache())):
        rows = plan.preferences.rows(index)
        preferences = (take(side_0, rows), take(side_1, rows), torch.from_numpy(label[rows]))
        plain.step(batch["obs"], batch["actions"], batch["new_obs"], preferences)
    algorithm.train()

    after, moved = weights(algorithm), {}
    for name in NETWORKS:
        for layer, pair in enumerate(plain.nets[name]):
            for kind, expected in zip(("weight", "bias"), pair, strict=True):
                place = "reward.network" if name == "reward" else name
                key = f"{place}.net.{2 * layer}.{kind}"
                np.testing.assert_allclose(after[key], expected.detach().numpy(), atol=1e-5, err_msg=key)
                moved[name] = max(moved.get(name, 0.0), float(np.abs(after[key] - before[key]).max()))
    assert min(moved.values()) > 5e-4, "the comparison says nothing where nothing moves"


def test_another_seed_gives_other_weights(tiny_dataset: str, build: Callable[..., PrefRec]) -> None:
    first = weights(build(tiny_dataset))
    other = config(tiny_dataset).debugging(seed=6).build_algo()
    assert not np.array_equal(first["actor.net.0.weight"], weights(other)["actor.net.0.weight"])
    other.stop()


def trained_by(learners: int, many: int, dataset: str, recipe: str) -> tuple[PrefRec, dict[str, Any]]:
    """Train for three iterations on batches that `many` learners can share. Returns the algorithm and its last row."""
    algorithm = config(
        dataset,
        **{**SMALL, "train_batch_size_per_learner": 6 * many // learners},
        recipe=recipe,
        num_learners=learners if learners > 1 else 0,
        num_cpus_per_learner=1 / many,
    ).build_algo()
    return algorithm, [algorithm.train() for _ in range(3)][-1]


def check_equal_one(trained: tuple[PrefRec, dict[str, Any]], many: int, dataset: str, recipe: str) -> None:
    (one, row), (others, row_of_others) = trained_by(1, many, dataset, recipe), trained
    expected, found = weights(one), weights(others)
    one.stop()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)
    for name, loss in row["losses"].items():
        assert row_of_others["losses"][name] == pytest.approx(loss, abs=1e-4), name


@pytest.fixture(scope="module")
def of_three(tiny_dataset: str) -> Iterator[tuple[PrefRec, dict[str, Any]]]:
    """Three learners, which have 3, 3 and 2 of the 8 lanes."""
    trained = trained_by(3, 3, tiny_dataset, "paper")
    yield trained
    trained[0].stop()


def test_three_learners_equal_one(tiny_dataset: str, of_three: tuple[PrefRec, dict[str, Any]]) -> None:
    check_equal_one(of_three, 3, tiny_dataset, "paper")


# Eleven share lanes. Under `robust` the reward stays as it is.
@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "many"), product(RECIPES, (2, 5, 8, 11)))
def test_many_learners_equal_one(tiny_dataset: str, recipe: str, many: int) -> None:
    trained = trained_by(many, many, tiny_dataset, recipe)
    check_equal_one(trained, many, tiny_dataset, recipe)
    trained[0].stop()


def test_a_failed_learner_ends_the_run(
    of_three: tuple[PrefRec, dict[str, Any]], tiny_dataset: str, build: Callable[..., PrefRec], tmp_path: Path
) -> None:
    """RLlib takes a learner that fails as its state is saved or restored out of service, and goes on.

    The checkpoint would lack its state, or training would go on with other weights.
    """
    algorithm, run = of_three[0], str(tmp_path / "run")
    save_checkpoint(algorithm, run, 1, [])
    on_each_learner(algorithm.learner_group, lambda learner: setattr(learner, "save_to_path", None))
    with pytest.raises(RayError, match="a learner failed"):
        save_checkpoint(algorithm, str(tmp_path / "other"), 1, [])
    assert not list(tmp_path.glob("other/checkpoint_*"))
    again = build(tiny_dataset, num_learners=1)
    # In a new process: torch is deterministic, without the import of torch.compile, which takes seconds.
    state = on_each_learner(
        again.learner_group,
        lambda learner: (torch.are_deterministic_algorithms_enabled(), "torch._dynamo" in sys.modules),
    )
    assert state == [(True, False)]
    on_each_learner(again.learner_group, lambda learner: setattr(learner, "restore_from_path", None))
    with pytest.raises(RayError, match="a learner failed"):
        again.restore_from_path(f"{run}/checkpoint_000003")


def test_a_checkpoint_is_an_algorithm(tiny_dataset: str, build: Callable[..., PrefRec], tmp_path: Path) -> None:
    algorithm = build(tiny_dataset)
    algorithm.train()
    algorithm.save_to_path(str(tmp_path / "checkpoint"))
    again = PrefRec.from_checkpoint(str(tmp_path / "checkpoint"))
    assert again.iteration == 1
    expected, found = weights(algorithm), weights(again)
    again.stop()
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def test_every_step_moves_the_target_and_leaves_q_without_gradient(
    tiny_dataset: str, build: Callable[..., PrefRec]
) -> None:
    algorithm = build(tiny_dataset, recipe="paper")
    learner, net = learner_of(algorithm), learner_of(algorithm).net
    (plan,) = algorithm.offline_data.sample(algorithm.offline_data.schedule.at(1))
    for batch in plan.transitions.batches(torch.device("cpu"), ShardCache()):
        before = [p.detach().clone() for p in net.target_q.parameters()]
        learner.update_policy(batch)
        for old, new, q in zip(before, net.target_q.parameters(), net.q.parameters(), strict=True):
            torch.testing.assert_close(new, old + algorithm.config.tau * (q - old))
        assert any(not torch.equal(old, new) for old, new in zip(before, net.target_q.parameters(), strict=True))

    marks = [torch.full_like(p, 7.0) for p in net.q.parameters()]
    for parameter, mark in zip(net.q.parameters(), marks, strict=True):
        parameter.grad = mark.clone()
    obs = batch["obs"]
    learner.minimise("actor", net.actor, -net.q(obs, net.actor(obs)).mean())
    for parameter, mark in zip(net.q.parameters(), marks, strict=True):
        assert torch.equal(parameter.grad, mark)


def test_results_hold_what_is_promised(tiny_dataset: str, build: Callable[..., PrefRec]) -> None:
    algorithm = build(tiny_dataset, recipe="paper")
    rows = [algorithm.train()]
    while not rows[-1]["done"]:
        rows.append(algorithm.train())
    assert len(rows) == algorithm.offline_data.schedule.iterations
    assert rows[0]["phase"] == "pretrain"
    assert {row["phase"] for row in rows[1:]} == {"train"}
    assert rows[-1]["progress"] == 1.0
    assert rows[-1]["updates"] == 2 * algorithm.offline_data.batches_per_epoch
    last = rows[-1]
    assert set(last["losses"]) == {"reward_loss", "value_loss", "qf_loss", "actor_loss"}
    assert set(last["values"]) == {"reward_mean", "q_mean", "v_mean"}
    accuracies = {"accuracy_train", "accuracy_any_users", "accuracy_within_user"}
    assert set(last["reward"]) == accuracies | {"loss_any_users", "loss_within_user"}
    assert all(0 <= last["reward"][name] <= 1 for name in accuracies)
    assert 0 <= last["policy"]["action_saturation"] <= 1
    assert last["policy"]["items_served"] >= 1
    assert last["transitions_per_second"] > 0


def test_reward_of_a_column_and_standardisation(tiny_dataset: str, build: Callable[..., PrefRec]) -> None:
    algorithm = build(tiny_dataset, recipe="robust", reward_source="column", reward_horizon=1)
    algorithm.train()
    data = algorithm.offline_data
    assert algorithm.offline_data.schedule.at(0).phase == "train"
    table = [pq.read_table(file) for file in data.dataset.files("transitions")]
    rewards = np.concatenate([part["reward"].to_numpy() for part in table])
    state = weights(algorithm)
    assert float(state["reward.mean"]) == pytest.approx(rewards.mean(), rel=1e-4)
    assert float(state["reward.std"]) == pytest.approx(rewards.std(), rel=1e-4)


def test_reward_learns_preferences(tiny_dataset: str, build: Callable[..., PrefRec]) -> None:
    algorithm = build(tiny_dataset, recipe="paper", pretrain_epochs=40, reward_lr=3e-3)
    rows = [algorithm.train() for _ in range(40)]
    assert rows[-1]["losses"]["reward_loss"] < 0.5 * rows[0]["losses"]["reward_loss"]
    assert rows[-1]["reward"]["accuracy_train"] > 0.85


@pytest.mark.parametrize("recipe", ["paper", "robust"])
def test_the_reward_starts_at_zero_and_moves(tiny_dataset: str, build: Callable[..., PrefRec], recipe: str) -> None:
    algorithm = build(tiny_dataset, recipe=recipe, pretrain_epochs=2)
    reward = learner_of(algorithm).net.reward
    layers = [member.net[0] for member in reward.members]
    inputs = torch.randn(7, layers[0].in_features)
    assert not reward(inputs).any()
    before = [layer.weight.detach().clone() for layer in layers]
    algorithm.train()
    assert reward(inputs).all()
    assert not any(torch.equal(layer.weight, old) for layer, old in zip(layers, before, strict=True))
