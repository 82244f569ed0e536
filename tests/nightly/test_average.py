"""The mean Q of several nights: its value, the nights in it, and policies that serve by it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from platform_desk import STATE, make_policy
from state_definitions import changed

from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import KindNames
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.nightly.average import average
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback, worth_of
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.policy.onnx_export import export_onnx

PRODUCTS = [[3, 4, 5], [10, 11, 12]]


def critic(products: list[list[int]] = PRODUCTS, scale: float = 1.0) -> Critic:
    network = QFunction.random(STATE.width, 3, [8], products).requires_grad_(False)
    network.net.linear[-1].weight *= scale
    return Critic([network])


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that saves the policy of a night, with states in its own scale."""
    rng = np.random.default_rng(3)
    states = rng.normal(size=(50, STATE.width)).astype(np.float32)
    monkeypatch.setattr("prefrec_ray.nightly.average._states", lambda dataset: states)

    def save(number: int, **changes: Any) -> str:
        torch.manual_seed(number)
        about = {"dataset": f"nights/{number}"}
        uri = str(tmp_path / f"{number}" / "policy")
        policy = make_policy(number, **{"critic": critic(), "provenance": about, **changes})
        # Similar scales: no state is clipped in only one of them.
        drawn, width = np.random.default_rng(number), policy.state.width
        scale = Normaliser(drawn.normal(0, 0.3, width), drawn.uniform(0.8, 1.25, width))
        replace(policy, normaliser=scale).save(uri)
        return uri

    return save


def plain_mean(nights: list[Policy], raw: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Return the mean of each Q at the policy's own states, divided by its spread over items."""
    own = nights[0].normaliser
    sample = np.random.default_rng(3).normal(size=(50, STATE.width)) * own.std + own.mean
    total = np.zeros((len(raw), len(embeddings)))
    for policy in nights:
        many = [
            policy.critic.scores(policy.normaliser(states), np.broadcast_to(items, (len(states), *items.shape)))
            for states, items in ((sample, nights[0].items.embeddings), (raw, embeddings))
        ]
        total += many[1] / many[0].std(axis=1).mean()
    return total / len(nights)


def test_it_is_the_mean_of_each_in_its_own_unit_and_scale(night: Callable[..., str], tmp_path: Path) -> None:
    uris = [night(1), night(2, critic=critic(scale=50.0)), night(3, items=60)]
    (tmp_path / "averaged").mkdir()  # a kill in an object store: without its last file, policy.json
    averaged = average(uris[0], uris[1:], "dataset", str(tmp_path / "averaged"))
    assert averaged == str(tmp_path / "averaged")
    policy, nights = Policy.load(averaged), [Policy.load(uri) for uri in uris]
    raw = np.random.default_rng(1).normal(size=(20, STATE.width))
    embeddings = np.random.default_rng(2).uniform(-1, 1, (15, 3)).astype(np.float32)
    states = nights[0].normaliser(raw)
    scores = policy.critic.scores(states, np.broadcast_to(embeddings, (20, 15, 3)))
    np.testing.assert_allclose(scores, plain_mean(nights, raw, embeddings), rtol=1e-4, atol=1e-5)
    own = nights[0]
    np.testing.assert_array_equal(policy.items.ids, own.items.ids)
    assert (policy.serving, policy.state) == (own.serving, own.state)
    assert policy.provenance["averaged"] == ["nights/1", "nights/2", "nights/3"]
    assert average(uris[0], [], "dataset", averaged) == averaged  # after a kill


def test_expected_feedback_is_weighted_by_all_nights(night: Callable[..., str], tmp_path: Path) -> None:
    """The expected feedback comes from the last night; its worth is fitted to the Q of both nights."""
    rng = np.random.default_rng(3)
    seen = rng.normal(size=(50, STATE.width)).astype(np.float32)

    def about(number: int) -> Critic:
        torch.manual_seed(number)
        answers = ExpectedFeedback.random(STATE.width, 3, [6], PRODUCTS, 3).requires_grad_(False)
        return replace(critic(scale=number), answers=answers, worth=np.zeros(3, np.float32))

    uris = [night(1, critic=about(1)), night(2, critic=about(5))]
    nights = [Policy.load(uri) for uri in uris]
    policy = Policy.load(average(uris[0], uris[1:], "dataset", str(tmp_path / "averaged")))
    items = nights[0].items.embeddings
    candidates = np.broadcast_to(items, (len(seen), *items.shape))
    expected = nights[0].critic.expected(seen, candidates)
    np.testing.assert_allclose(policy.critic.expected(seen, candidates), expected, atol=1e-5)
    raw = seen * nights[0].normaliser.std + nights[0].normaliser.mean
    bare = [replace(one, critic=replace(one.critic, worth=None)) for one in nights]
    scores = plain_mean(bare, raw, items)
    wanted = worth_of(expected, scores) * scores.std(axis=1).mean()
    np.testing.assert_allclose(policy.critic.worth, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        policy.critic.by_feedback.scores(seen, candidates), expected @ wanted, rtol=1e-3, atol=1e-4
    )


def test_it_is_exported_as_it_is_served(night: Callable[..., str], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    averaged = Policy.load(average(night(1), [night(2)], "dataset", str(tmp_path / "averaged")))
    export_onnx(averaged, str(tmp_path / "onnx"))
    states = 3 * np.random.default_rng(1).normal(size=(6, STATE.width)).astype(np.float32)  # some are clipped
    candidates = np.random.default_rng(2).uniform(-1, 1, (6, 9, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "critic.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"states": states, "candidates": candidates})
    np.testing.assert_allclose(scores, averaged.critic.scores(states, candidates), atol=1e-5)


def test_effects_of_kinds_are_matched_by_name(night: Callable[..., str], tmp_path: Path) -> None:
    """The last night has another kind of items, `genre`, in the place of `maker`."""

    def kinds(number: int, **effects: list[float]) -> str:
        codes = np.stack([np.arange(6) % 2] * len(effects), axis=1)
        names = tuple(KindNames(name, {"a": 0, "b": 1}) for name in effects)
        items = replace(make_policy(items=6).items, kind_codes=codes, kind_names=names)
        own = replace(critic(), kind_effects=[np.array(values, np.float32) for values in effects.values()])
        uri = night(number, items=6, critic=own)
        policy = Policy.load(uri)
        shutil.rmtree(uri)
        replace(policy, items=items).save(uri)
        return uri

    before = kinds(1, cluster=[0, 0], maker=[5, -5])
    own = kinds(2, cluster=[0, 0], genre=[0, 0], maker=[0, 0])
    cluster, genre, maker = Policy.load(
        average(own, [before], "dataset", str(tmp_path / "averaged"))
    ).critic.kind_effects
    assert cluster.tolist() == genre.tolist() == [0, 0]
    assert maker[0] == -maker[1] > 0


@pytest.mark.parametrize("file", ["policy.json", "actor.safetensors", "critic.safetensors", "items.parquet"])
def test_a_damaged_policy_of_an_old_night_is_skipped_with_one_warning(
    night: Callable[..., str], tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    own, damaged, sound = night(1), night(2), night(3)
    Path(damaged, file).write_bytes(Path(damaged, file).read_bytes()[:-100])
    averaged = average(own, [damaged, sound], "dataset", str(tmp_path / "averaged"))
    assert Policy.load(averaged).provenance["averaged"] == ["nights/1", "nights/3"]
    (warning,) = caplog.messages
    assert warning.startswith(f"skipped in the mean Q: {damaged}/{file}: ")
    assert "\n" not in warning


def test_policies_that_differ_do_not_count(night: Callable[..., str], tmp_path: Path) -> None:
    relearned = night(7)
    policy = Policy.load(relearned)
    turned = ItemTable(policy.items.ids, policy.items.embeddings[:, ::-1])  # as a log of another day would learn them
    shutil.rmtree(relearned)
    policy.with_items(turned).save(relearned)
    other_states = make_policy(5, state=changed(STATE, user_features={})).state
    strangers = [
        night(2, state=other_states, critic=None, serving=DETERMINISTIC),
        night(3, critic=critic(products=[])),
        night(4, critic=critic(scale=0.0)),
        relearned,
        str(tmp_path / "gone" / "policy"),
    ]
    own = night(1)
    assert average(own, strangers, "dataset", str(tmp_path / "averaged")) == own
    assert not (tmp_path / "averaged").exists()
    averaged = average(own, [*strangers, night(6)], "dataset", str(tmp_path / "averaged"))
    assert Policy.load(averaged).provenance["averaged"] == ["nights/1", "nights/6"]


@pytest.mark.parametrize("serving", [DETERMINISTIC, ServingSettings(candidates="nearest", rule="sample")])
def test_a_policy_that_serves_by_its_actor_stays_as_it_is(
    serving: ServingSettings, night: Callable[..., str], tmp_path: Path
) -> None:
    own = night(1, serving=serving)
    assert average(own, [night(2)], "dataset", str(tmp_path / "averaged")) == own


def test_a_q_that_is_the_same_for_all_items_does_not_count(night: Callable[..., str], tmp_path: Path) -> None:
    network = QFunction(mlp(STATE.width + 3, [8], 1).requires_grad_(False), (), 3)
    for layer in network.net.linear:
        layer.weight.zero_()
    own = night(1, critic=Critic([network]))
    assert average(own, [night(2, critic=Critic([network]))], "dataset", str(tmp_path / "averaged")) == own
