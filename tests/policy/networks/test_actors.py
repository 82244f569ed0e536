"""Candidate actors against brute force in float64, their storage, and refused inputs."""

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from prefrec_ray.algorithms.losses import gaussian_log_density
from prefrec_ray.errors import UserError
from prefrec_ray.policy.networks.actors import BoundedGaussianActor, Density, DeterministicActor, GaussianActor
from prefrec_ray.policy.networks.bundled import ActorDescription, load_actor, save_actor
from prefrec_ray.policy.networks.candidates import CandidateActor
from prefrec_ray.policy.networks.layers import Layers, Mlp, exported, mlp

STATE, ACTION, LATENT = 5, 2, 3
LOW, HIGH = np.float32([-1, 0]), np.float32([1, 3])


def layers(rng: np.random.Generator, *sizes: int) -> Layers:
    return [
        ((2 * rng.normal(size=(b, a)) / np.sqrt(a)).astype(np.float32), rng.normal(size=b).astype(np.float32))
        for a, b in pairwise(sizes)
    ]


#: Columns of the state whose inner products with an action Q sees.
PRODUCTS = np.array([[1, 2], [4, 3]])


def make_parts(seed: int = 0, candidates: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "decoder": layers(rng, STATE + LATENT, 7, ACTION),
        "perturbation": layers(rng, STATE + ACTION, 6, 5, ACTION),
        "critic": layers(rng, STATE + ACTION + len(PRODUCTS), 8, 1),
        "products": PRODUCTS,
        "latents": rng.normal(size=(candidates, LATENT)).astype(np.float32),
        "reach": np.float32([0.1, 0.4]),
    }


def make_actor(parts: dict[str, Any], low: np.ndarray = LOW) -> CandidateActor:
    return CandidateActor.from_parts(
        {k: Mlp.from_layers(v) if isinstance(v, list) else v for k, v in parts.items()}, low, HIGH
    )


def numpy_mlp(layers: Layers, *inputs: np.ndarray) -> np.ndarray:
    hidden = np.concatenate(inputs).astype(np.float64)
    for i, (weight, bias) in enumerate(layers):
        hidden = weight @ (np.maximum(hidden, 0) if i else hidden) + bias
    return hidden


def brute_force(parts: dict[str, Any], state: np.ndarray) -> np.ndarray:
    """Every candidate's score; then the best one."""
    actions, scores = [], []
    for latent in parts["latents"]:
        action = LOW + (np.tanh(numpy_mlp(parts["decoder"], state, latent)) + 1) / 2 * (HIGH - LOW)
        action = action + parts["reach"] * np.tanh(numpy_mlp(parts["perturbation"], state, action))
        actions.append(np.minimum(np.maximum(action, LOW), HIGH))
        products = [state[columns] @ actions[-1] for columns in PRODUCTS]
        scores.append(numpy_mlp(parts["critic"], state, actions[-1], products)[0])
    return actions[int(np.argmax(scores))]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), candidates=st.integers(1, 8))
def test_acts_by_the_best_candidate(seed: int, candidates: int) -> None:
    parts = make_parts(seed, candidates)
    states = np.random.default_rng(seed + 1).normal(size=(9, STATE)).astype(np.float32)
    actions = make_actor(parts)(torch.tensor(states)).numpy()
    np.testing.assert_allclose(actions, [brute_force(parts, state) for state in states], atol=1e-5)


def test_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    actor, states = make_actor(make_parts()), torch.randn(50, STATE, generator=torch.manual_seed(0))
    description = save_actor(str(tmp_path / "actor.safetensors"), actor)
    again = load_actor(str(tmp_path / "actor.safetensors"), ActorDescription(**description))
    assert isinstance(again, CandidateActor)
    names = set(load_file(tmp_path / "actor.safetensors"))
    assert names > {"decoder.0.weight", "decoder.0.bias", "decoder.1.weight", "latents", "reach"}
    assert torch.equal(again(states), actor(states))
    assert torch.equal(pickle.loads(pickle.dumps(again))(states), actor(states))


def test_a_state_only_network_is_no_candidate_actor() -> None:
    rng, parts = np.random.default_rng(0), make_parts()
    with pytest.raises(
        UserError, match=r"critic: takes 6 numbers and gives 2; expected a state, an action of 2, 2 products"
    ):
        make_actor({**parts, "critic": layers(rng, STATE + 1, 2)})
    with pytest.raises(UserError, match=r"the critic takes states and actions of \(4, 2\) numbers; expected \(5, 2\)"):
        make_actor({**parts, "critic": layers(rng, STATE + 3, 1), "products": PRODUCTS - 1})
    with pytest.raises(UserError, match=r"the perturbation takes 7 numbers and gives 3; expected 7 and 2"):
        make_actor({**parts, "perturbation": layers(rng, STATE + ACTION, 3)})
    with pytest.raises(UserError, match=r"the actor gives 2 numbers, its bounds have 3 and 2"):
        make_actor(parts, low=np.zeros(3, np.float32))
    with pytest.raises(UserError, match=r"6 latents and a reach of 1 numbers; expected one or more, and 2"):
        make_actor({**parts, "reach": np.ones(1, np.float32)})


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "actor.safetensors")
    description = save_actor(path, make_actor(make_parts()))
    kinds = "mlp, gaussian, bounded_gaussian, candidates"
    with pytest.raises(UserError, match=rf"actor of kind 'tree'; expected one of {kinds}"):
        load_actor(path, ActorDescription(**{**description, "kind": "tree"}))
    with pytest.raises(UserError, match=r"an actor of kind 'mlp' has the networks layers; found decoder, pert"):
        load_actor(path, ActorDescription(**{**description, "kind": "mlp"}))
    plain = save_actor(
        path, DeterministicActor(Mlp.from_layers(layers(np.random.default_rng(0), STATE, ACTION)), LOW, HIGH)
    )
    assert plain["layer_sizes"] == {"layers": [STATE, ACTION]}
    with pytest.raises(UserError, match=r"actor\.safetensors: arrays 'critic\.0\.bias', .* are missing"):
        load_actor(path, ActorDescription(**description))


def test_an_exported_actor_is_the_trained_one_as_it_was() -> None:
    """A Gaussian acts by its mean. An exported actor does not follow later training and does not train."""
    torch.manual_seed(0)
    actor, states = GaussianActor(mlp(STATE, (7,), ACTION), LOW, HIGH, state_deviation=True), torch.randn(9, STATE)
    mean, log_std = actor.distribution(states)
    assert log_std.shape == (9, ACTION)
    copy = exported(actor)
    assert torch.equal(copy(states), actor.squashed(mean))
    assert not copy(states).requires_grad
    assert actor(states).requires_grad
    with torch.no_grad():
        actor.net[0].bias += 1
    assert torch.equal(copy(states), actor.squashed(mean))


def test_a_bounded_gaussian_is_served_by_the_density_that_iql_trains(tmp_path: Path) -> None:
    torch.manual_seed(0)
    actor = BoundedGaussianActor(mlp(STATE, (7,), ACTION), LOW, HIGH, state_deviation=False).requires_grad_(False)
    actor.log_std.value.copy_(torch.linspace(-1.0, 0.3, ACTION))
    states, actions = torch.randn(6, STATE), torch.randn(6, 5, ACTION)
    mean, log_std = actor.distribution(states)
    trained = gaussian_log_density(actions, actor.squashed(mean)[:, None], log_std)
    path = str(tmp_path / "actor.safetensors")
    stored = load_actor(path, ActorDescription(**save_actor(path, exported(actor))))
    for one in (actor, stored):
        served = torch.from_numpy(Density(one).scores(states.numpy(), actions.numpy()))
        torch.testing.assert_close(served - served[:, :1], trained - trained[:, :1], atol=1e-4, rtol=1e-4)
    assert type(stored) is BoundedGaussianActor


def test_reading_weights_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make_actor(make_parts())
    assert torch.equal(torch.rand(3), expected)
