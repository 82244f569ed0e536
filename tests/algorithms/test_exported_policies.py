"""Exported policies of all methods: the choice among real items by Q or by the density of an actor."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny import best_action, learner_of

from prefrec_ray.algorithms import METHODS
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback
from prefrec_ray.runs.export import policy_of
from prefrec_ray.runs.train import policy_now

SETTINGS: dict[str, Any] = {
    "recipe": "paper",
    "task": "depth",
    "train_batch_size_per_learner": 64,
    "preference_batch_size": 16,
    "hidden_sizes": (16, 16),
    "updates_per_iteration": 60,
    "pretrain_epochs": 1,
    "num_epochs": 10,
    "finetune_reward": False,
    "actor_lr": 3e-3,
    "critic_lr": 3e-3,
}

Build = Callable[..., OfflineAlgorithm]


@pytest.fixture
def build(tiny_dataset: str) -> Iterator[Build]:
    built: list[OfflineAlgorithm] = []

    def make(method: str, **changes: Any) -> OfflineAlgorithm:
        config = METHODS[method].get_default_config().offline_data(input_=tiny_dataset).debugging(seed=1)
        built.append(config.training(**{**SETTINGS, **changes}).build_algo())
        return built[-1]

    yield make
    for algorithm in built:
        algorithm.stop()


def trained(algorithm: OfflineAlgorithm) -> Policy:
    for _ in range(2):  # pre-training, then updates
        algorithm.train()
    return policy_now(algorithm)


def test_td3_bc_keeps_its_actor_near_logged_actions(build: Build) -> None:
    free = build("TD3")
    _, logged = best_action(free.offline_data.probe)
    distances = [
        float(np.linalg.norm(trained(algorithm).act(free.offline_data.probe) - logged, axis=1).mean())
        for algorithm in (build("TD3_BC", bc_alpha=0.05), free)
    ]
    assert distances[0] < 0.75 * distances[1]  # both actors move at every second update only


@pytest.mark.parametrize("method", list(METHODS))
def test_of_the_nearest_items_the_one_of_the_largest_q_is_served(build: Build, method: str) -> None:
    algorithm = build(method, serving={"rule": "best", "candidates": "nearest", "count": 12})
    policy, net, states = trained(algorithm), learner_of(algorithm).net, algorithm.offline_data.probe[:50]
    with torch.no_grad():
        proposed = net.actor(torch.tensor(states)).numpy()
    if method in ("IL", "SAC", "IQL"):  # by the density of the actor
        assert policy.critic is None
        near = policy.items.nearest(proposed, 12)
        served = policy.items.rows(policy.serve(states, 1).items[:, 0])
        assert (near == served[:, None]).any(axis=1).all()
        if method == "IL":  # a Gaussian of one deviation: the nearest
            np.testing.assert_array_equal(served, near[:, 0])
        return
    served_by, online = (
        [{name: one.numpy() for name, one in q.net.state_dict().items()} for q in networks]
        for networks in (policy.critic.networks, net.critics)
    )
    targets = net.target_q if isinstance(net.target_q, torch.nn.ModuleList) else [net.target_q]
    for kept, target, trained_last in zip(served_by, targets, online, strict=True):
        for name, array in target.net.state_dict().items():
            np.testing.assert_array_equal(kept[name], array.numpy())
        assert any((kept[name] != trained_last[name]).any() for name in kept)
    embeddings = policy.items.embeddings
    for state, action, served in zip(states, proposed, policy.act(states), strict=True):
        near = np.argsort(np.linalg.norm(embeddings - action, axis=1), kind="stable")[:12]
        rows = torch.tensor(np.tile(state, (12, 1))), torch.tensor(embeddings[near])
        with torch.no_grad():
            scores = torch.stack([q(*rows) for q in net.served_critics]).mean(0).numpy()
        chosen = (embeddings[near] == served).all(axis=1)
        assert chosen.sum() == 1
        assert scores[chosen][0] >= scores.max() - 1e-5
    report = algorithm.train()["policy"]
    assert report["item_distance"] < 1e-6
    assert 1 <= report["items_served"] <= len(embeddings)


def test_more_candidates_than_items_are_all_items(build: Build) -> None:
    serving = {"rule": "sample", "candidates": "nearest", "count": 10_000, "temperature": 0.3}
    policy = policy_of(learner_of(build("DDPG", serving=serving)).net)
    served = policy.serve(np.zeros((2_000, policy.state.width), np.float32), 1, seed=0)
    assert len(np.unique(served.items)) > 0.5 * len(policy.items)


@pytest.mark.parametrize("method", list(METHODS))
def test_robust_policies_are_distributions_over_all_items(build: Build, method: str) -> None:
    policy = policy_of(learner_of(build(method, recipe="robust")).net)
    assert policy.serving == ServingSettings().resolved()
    states = np.random.default_rng(0).normal(size=(500, policy.state.width)).astype(np.float32)
    served = policy.serve(states, 2, seed=0)
    assert (served.propensities > 0).all()
    assert (served.propensities < 1).any()
    assert len(np.unique(served.items)) > 0.2 * len(policy.items)


def test_one_key_of_serving_leaves_the_recipes_others(build: Build) -> None:
    robust = policy_of(learner_of(build("PrefRec", recipe="robust", serving={"temperature": 0.5})).net)
    assert robust.serving == ServingSettings(temperature=0.5).resolved()
    paper = policy_of(learner_of(build("PrefRec", recipe="paper", serving={"count": 2})).net)
    assert paper.serving == ServingSettings(rule="best", candidates="nearest", count=2, variety=0.0).resolved()


def test_the_expected_feedback_of_the_log_is_fitted_to_q(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    module = learner_of(build("PrefRec", recipe="robust", serving={"scores": "feedback"})).net
    data = PreparedDataset.open(module.model_config["provenance"]["dataset"])
    answers = ExpectedFeedback.random(data.state.width, data.state.action_dim, [6], (), 2).requires_grad_(False)
    monkeypatch.setattr(PreparedDataset, "answers", lambda data: answers)
    policy = policy_of(module, data)
    states = np.random.default_rng(0).normal(size=(3, policy.state.width)).astype(np.float32)
    items = np.broadcast_to(policy.items.embeddings, (3, *policy.items.embeddings.shape))
    rows = (
        torch.tensor(np.repeat(states, len(policy.items), axis=0)),
        torch.tensor(items.reshape(-1, items.shape[2])),
    )
    expected = answers(*rows).reshape(3, len(policy.items), -1)
    np.testing.assert_allclose(policy.critic.expected(states, items), expected, atol=1e-5)
    np.testing.assert_allclose(policy.scorer.scores(states, items), expected @ policy.critic.worth, atol=1e-5)
    by_q = policy.under(scores="q")
    assert by_q.scorer is by_q.critic
    assert policy_of(learner_of(build("PrefRec", recipe="robust")).net, data, data.items()).critic.answers is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"serving": {"count": 0}}, "key 'serving.count': expected greater than 0, found 0"),
        ({"serving": {"rule": "worst"}}, "key 'serving.rule': expected 'sample' or 'best', found 'worst'"),
        ({"serving": {"temprature": 1}}, "key 'serving.temprature': unknown key; did you mean 'temperature'"),
    ],
)
def test_bad_serving(build: Build, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("PrefRec", **settings)
