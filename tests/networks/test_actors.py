"""The best of candidates, against brute force in float64; on disk; and what is refused."""

import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.networks.arrays import Layers
from prefrec_ray.networks.served import CandidateActor, MlpActor, load_actor, save_actor

STATE, ACTION, LATENT = 5, 2, 3
LOW, HIGH = np.float32([-1, 0]), np.float32([1, 3])


def layers(rng: np.random.Generator, *sizes: int) -> Layers:
    return [
        ((2 * rng.normal(size=(b, a)) / np.sqrt(a)).astype(np.float32), rng.normal(size=b).astype(np.float32))
        for a, b in pairwise(sizes)
    ]


def make_actor(seed: int = 0, candidates: int = 6) -> CandidateActor:
    rng = np.random.default_rng(seed)
    return CandidateActor(
        decoder=layers(rng, STATE + LATENT, 7, ACTION),
        perturbation=layers(rng, STATE + ACTION, 6, 5, ACTION),
        critic=layers(rng, STATE + ACTION, 8, 1),
        latents=rng.normal(size=(candidates, LATENT)).astype(np.float32),
        reach=np.float32([0.1, 0.4]),
        low=LOW,
        high=HIGH,
    )


def numpy_mlp(layers: Layers, *inputs: np.ndarray) -> np.ndarray:
    hidden = np.concatenate(inputs).astype(np.float64)
    for i, (weight, bias) in enumerate(layers):
        hidden = weight @ (np.maximum(hidden, 0) if i else hidden) + bias
    return hidden


def brute_force(actor: CandidateActor, state: np.ndarray) -> np.ndarray:
    """Every candidate's score; then the best one."""
    actions, scores = [], []
    for latent in actor.latents:
        action = LOW + (np.tanh(numpy_mlp(actor.decoder, state, latent)) + 1) / 2 * (HIGH - LOW)
        action = action + actor.reach * np.tanh(numpy_mlp(actor.perturbation, state, action))
        actions.append(np.minimum(np.maximum(action, LOW), HIGH))
        scores.append(numpy_mlp(actor.critic, state, actions[-1])[0])
    return actions[int(np.argmax(scores))]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), candidates=st.integers(1, 8))
def test_acts_by_the_best_candidate(seed: int, candidates: int) -> None:
    actor = make_actor(seed, candidates)
    states = np.random.default_rng(seed + 1).normal(size=(9, STATE)).astype(np.float32)
    actions = actor(torch.tensor(states)).numpy()
    np.testing.assert_allclose(actions, [brute_force(actor, state) for state in states], atol=1e-5)


def test_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    actor, states = make_actor(), torch.randn(50, STATE, generator=torch.manual_seed(0))
    description = save_actor(str(tmp_path / "actor.npz"), actor)
    again = load_actor(str(tmp_path / "actor.npz"), description)
    assert isinstance(again, CandidateActor)
    assert torch.equal(again(states), actor(states))
    assert torch.equal(pickle.loads(pickle.dumps(again))(states), actor(states))


def test_a_state_only_network_is_no_candidate_actor() -> None:
    actor = make_actor()
    with pytest.raises(UserError, match=r"the critic takes 5 numbers and gives 1; expected 7 and 1"):
        replace(actor, critic=layers(np.random.default_rng(0), STATE, 1))
    with pytest.raises(UserError, match=r"the perturbation takes 7 numbers and gives 3; expected 7 and 2"):
        replace(actor, perturbation=layers(np.random.default_rng(0), STATE + ACTION, 3))
    with pytest.raises(UserError, match=r"the decoder gives 2 numbers, its bounds have 3 and 2"):
        replace(actor, low=np.zeros(3, np.float32))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "actor.npz")
    description = save_actor(path, make_actor())
    with pytest.raises(UserError, match=r"actor of kind 'tree'; expected one of mlp, candidates"):
        load_actor(path, {**description, "kind": "tree"})
    with pytest.raises(UserError, match=r"not the arrays of an actor of kind 'mlp'"):
        load_actor(path, {**description, "kind": "mlp"})
    plain = save_actor(path, MlpActor(layers(np.random.default_rng(0), STATE, ACTION), LOW, HIGH))
    assert plain["layer_sizes"] == {"layers": [STATE, ACTION]}
    with pytest.raises(UserError, match=r"actor\.npz: arrays critic\.0\.bias, .* are missing"):
        load_actor(path, description)
