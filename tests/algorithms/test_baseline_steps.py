"""A step of each baseline against plain numpy in float64: every loss, its gradient, the targets, and the order.

The losses below are written from the papers. Each is a function of the weights of the network it trains; the others are
as they were before the step (`old`) or as the step has left them (`new`), so that a wrong order shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution, kl_divergence

from prefrec_ray.algorithms import METHODS
from prefrec_ray.algorithms import bcq as bcq_file
from tests.tiny import STATE

B, GAMMA, TAU, CANDIDATES = 24, 0.9, 0.05, 6
LOW, HIGH = np.float32([-1, 0]), np.float32([1, 3])
HALF = (HIGH - LOW) / 2
Weights = dict[str, np.ndarray]


@dataclass
class Case:
    """A learner with weights drawn at random (targets too), a batch, and normal numbers wide enough to be clipped."""

    learner: Any
    batch: dict[str, np.ndarray]

    @property
    def net(self) -> Any:
        return self.learner.net

    def noise(self, width: int, draw: int = 0) -> np.ndarray:
        return 2 * np.random.default_rng((7, draw)).normal(size=(B, width)).astype(np.float32)

    def weights(self) -> Weights:
        return {name: p.detach().numpy().astype(np.float64) for name, p in self.net.named_parameters()}

    def step(self, update_index: int = 1) -> tuple[Weights, Weights, dict[str, float]]:
        old = self.weights()
        self.learner.update_index = update_index
        metrics = self.learner.update_policy({name: torch.tensor(value) for name, value in self.batch.items()})
        return old, self.weights(), {name: float(value) for name, value in metrics.items()}


@pytest.fixture
def make(tiny_dataset: str) -> Callable[..., Case]:
    def build(method: str, **settings: Any) -> Case:
        config = METHODS[method].get_default_config().offline_data(input_=tiny_dataset).debugging(seed=3)
        config.training(task="depth", gamma=GAMMA, tau=TAU, hidden_sizes=(12, 10), reward_source="column", **settings)
        config.validate()
        spaces = config.observation_space, gym.spaces.Box(LOW, HIGH, dtype=np.float32)
        learner = config.build_learner(spaces={DEFAULT_MODULE_ID: spaces})
        rng = np.random.default_rng(0)
        with torch.no_grad():
            for parameter in learner.net.parameters():
                parameter += torch.tensor(0.3 * rng.normal(size=parameter.shape), dtype=torch.float32)
        obs, next_obs = rng.normal(size=(2, B, spaces[0].shape[0])).astype(np.float32)
        action = rng.uniform(LOW, HIGH, size=(B, 2)).astype(np.float32)
        reward = rng.normal(size=B).astype(np.float32)
        case = Case(learner, {"obs": obs, "new_obs": next_obs, "actions": action, "rewards": reward})
        learner.noise = lambda width, draw=0: torch.tensor(case.noise(width, draw))
        return case

    return build


# --- plain parts ------------------------------------------------------------------------------------------------------


def mlp(weights: Weights, prefix: str, *inputs: np.ndarray) -> np.ndarray:
    """Linear layers with ReLU between them."""
    numbers = sorted(int(m[1]) for m in (re.fullmatch(re.escape(prefix) + r"\.(\d+)\.weight", n) for n in weights) if m)
    hidden = np.concatenate(inputs, axis=1).astype(np.float64)
    for i, number in enumerate(numbers):
        hidden = np.maximum(hidden, 0) if i else hidden
        hidden = hidden @ weights[f"{prefix}.{number}.weight"].T + weights[f"{prefix}.{number}.bias"]
    assert numbers
    return hidden


def scaled(unit: np.ndarray) -> np.ndarray:
    return LOW + (np.tanh(unit) + 1) * HALF


def pi(weights: Weights, prefix: str, states: np.ndarray) -> np.ndarray:
    return scaled(mlp(weights, f"{prefix}.net", states))


def q(weights: Weights, prefix: str, states: np.ndarray, *actions: np.ndarray) -> np.ndarray:
    """Q with the inner product of an action and the previous item as an input; V has only states as inputs."""
    products = [(states[:, STATE.groups["items"]] * action).sum(axis=1, keepdims=True) for action in actions]
    return mlp(weights, f"{prefix}.net", states, *actions, *products)[:, 0]


def twins(weights: Weights, prefix: str, *inputs: np.ndarray) -> np.ndarray:
    return np.stack([q(weights, f"{prefix}.{i}", *inputs) for i in (0, 1)])


def gaussian(weights: Weights, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = mlp(weights, "actor.net", states)
    if "actor.log_std.value" in weights:
        return mean, np.clip(weights["actor.log_std.value"], -5, 2)
    head = max(name for name in weights if name.startswith("actor.net.")).rsplit(".", 1)[0]
    trunk = {name: value for name, value in weights.items() if not name.startswith(head)}
    hidden = np.maximum(mlp(trunk, "actor.net", states), 0)
    return mean, np.clip(hidden @ weights["actor.log_std.weight"].T + weights["actor.log_std.bias"], -5, 2)


def log_normal(x: np.ndarray, mean: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    return (-(((x - mean) / np.exp(log_std)) ** 2) / 2 - log_std - np.log(2 * np.pi) / 2).sum(axis=1)


# --- the losses: optimizer -> (prefixes of its parameters, its metric, loss of the weights) ---

Loss = tuple[tuple[str, ...], str | None, Callable[[Weights], float]]


def il(case: Case, old: Weights, new: Weights) -> dict[str, Loss]:
    s, a = case.batch["obs"], case.batch["actions"]
    return {"actor": (("actor",), "losses/actor_loss", lambda w: np.mean((pi(w, "actor", s) - a) ** 2))}


def ddpg(case: Case, old: Weights, new: Weights) -> dict[str, Loss]:
    s, a, s2, r = (case.batch[name] for name in ("obs", "actions", "new_obs", "rewards"))
    target = r + GAMMA * q(old, "target_q", s2, pi(old, "target_actor", s2))
    return {
        "q": (("q",), "losses/qf_loss", lambda w: np.mean((target - q(w, "q", s, a)) ** 2)),
        "actor": (("actor",), "losses/actor_loss", lambda w: -q(new, "q", s, pi(w, "actor", s)).mean()),
    }


def td3(case: Case, old: Weights, new: Weights) -> dict[str, Loss]:
    s, a, s2, r = (case.batch[name] for name in ("obs", "actions", "new_obs", "rewards"))
    noise = np.clip(0.2 * case.noise(2), -0.5, 0.5)
    assert (abs(noise) == 0.5).any()
    a2 = np.clip(pi(old, "target_actor", s2) + noise * HALF, LOW, HIGH)
    target = r + GAMMA * twins(old, "target_q", s2, a2).min(axis=0)
    return {
        "q": (("q",), "losses/qf_loss", lambda w: ((target - twins(w, "q", s, a)) ** 2).mean(axis=1).sum()),
        "actor": (("actor",), "losses/actor_loss", lambda w: -q(new, "q.0", s, pi(w, "actor", s)).mean()),
    }


def td3_bc(case: Case, old: Weights, new: Weights) -> dict[str, Loss]:
    s, a = case.batch["obs"], case.batch["actions"]
    scale = 2.5 / np.abs(q(new, "q.0", s, pi(old, "actor", s))).mean()  # no gradient runs through it

    def actor(w: Weights) -> float:
        policy = pi(w, "actor", s)
        return -scale * q(new, "q.0", s, policy).mean() + np.mean((policy - a) ** 2)

    return {**td3(case, old, new), "actor": (("actor",), "losses/actor_loss", actor)}


def sac(case: Case, old: Weights, new: Weights) -> dict[str, Loss]:
    s, a, s2, r = (case.batch[name] for name in ("obs", "actions", "new_obs", "rewards"))
    alpha = np.exp(old["temperature.log"])

    def sample(w: Weights, states: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, log_std = gaussian(w, states)
        x = mean + np.exp(log_std) * noise
        return scaled(x), log_normal(x, mean, log_std) - np.log(np.cosh(x) ** -2.0).sum(axis=1)

    def actor(w: Weights) -> float:
        action, log_density = sample(w, s, case.noise(2, 1))
        return (alpha * log_density - twins(new, "q", s, action).min(axis=0)).mean()

    a2, log_density2 = sample(old, s2, case.noise(2, 0))
    target = r + GAMMA * (twins(old, "target_q", s2, a2).min(axis=0) - alpha * log_density2)
    excess = sample(old, s, case.noise(2, 1))[1].mean() - 2
    return {
        "q": (("q",), "losses/qf_loss", lambda w: ((target - twins(w, "q", s, a)) ** 2).mean(axis=1).sum()),
        "actor": (("actor",), "losses/actor_loss", actor),
        "temperature": (("temperature",), None, lambda w: float(-w["temperature.log"] * excess)),
    }


def iql(case: Case, old: Weights, new: Weights) -> dict[str, Loss]:
    s, a, s2, r = (case.batch[name] for name in ("obs", "actions", "new_obs", "rewards"))
    expected = twins(old, "target_q", s, a).min(axis=0)
    raw = np.exp(10 * (expected - q(new, "value", s)))
    assert (raw > 100).any()
    assert (raw < 100).any()
    target = r + GAMMA * q(new, "value", s2)

    def value(w: Weights) -> float:
        u = expected - q(w, "value", s)
        return np.mean(np.where(u < 0, 0.2, 0.8) * u**2)

    def actor(w: Weights) -> float:
        mean, log_std = gaussian(w, s)
        return -np.mean(np.minimum(raw, 100) * log_normal(a, scaled(mean), log_std))

    return {
        "value": (("value",), "losses/value_loss", value),
        "actor": (("actor",), "losses/actor_loss", actor),
        "q": (("q",), "losses/qf_loss", lambda w: ((target - twins(w, "q", s, a)) ** 2).mean(axis=1).sum()),
    }


def bcq(case: Case, old: Weights, new: Weights) -> dict[str, Loss]:
    s, a, s2, r = (case.batch[name] for name in ("obs", "actions", "new_obs", "rewards"))

    def vae(w: Weights) -> float:
        mean, log_std = np.split(mlp(w, "encoder.net", s, a), 2, axis=1)
        log_std = np.clip(log_std, -4, 15)
        decoded = scaled(mlp(w, "decoder.net", s, mean + np.exp(log_std) * case.noise(4)))
        kl = (mean**2 + np.exp(2 * log_std) - 1) / 2 - log_std
        return np.mean((decoded - a) ** 2) + 0.5 * kl.mean()

    def propose(states: np.ndarray, latents: np.ndarray) -> np.ndarray:
        return scaled(mlp(new, "decoder.net", states, np.clip(latents, -0.5, 0.5)))

    def moved(w: Weights, prefix: str, states: np.ndarray, action: np.ndarray) -> np.ndarray:
        return np.clip(action + 0.3 * HALF * np.tanh(mlp(w, f"{prefix}.net", states, action)), LOW, HIGH)

    values = []
    for latents in np.split(case.noise(CANDIDATES * 4, 2), CANDIDATES, axis=1):
        low, high = np.sort(
            twins(old, "target_q", s2, moved(old, "target_perturbation", s2, propose(s2, latents))), axis=0
        )
        values.append(0.75 * low + 0.25 * high)
    target = r + GAMMA * np.max(values, axis=0)
    proposed = propose(s, case.noise(4, 1))
    return {
        "vae": (("encoder", "decoder"), "losses/vae_loss", vae),
        "q": (("q",), "losses/qf_loss", lambda w: ((target - twins(w, "q", s, a)) ** 2).mean(axis=1).sum()),
        "perturbation": (
            ("perturbation",),
            "losses/actor_loss",
            lambda w: -q(new, "q.0", s, moved(w, "perturbation", s, proposed)).mean(),
        ),
    }


BASELINES: dict[str, tuple[Callable[..., dict[str, Loss]], dict[str, Any]]] = {
    "IL": (il, {}),
    "DDPG": (ddpg, {}),
    "TD3": (td3, {}),
    "TD3_BC": (td3_bc, {}),
    "SAC": (sac, {}),
    "IQL": (iql, {"temperature": 10, "expectile": 0.8}),
    "BCQ": (bcq, {"perturbation": 0.3, "candidates": CANDIDATES}),
}


@pytest.mark.parametrize("method", list(BASELINES))
def test_losses_and_gradients_of_a_step(make: Callable[..., Case], method: str) -> None:
    """After one step Adam's first moments are a tenth of the gradients; here the slopes of the plain losses."""
    losses, settings = BASELINES[method]
    case = make(method, **settings)
    old, new, metrics = case.step()
    expected = losses(case, old, new)
    assert set(expected) == set(case.learner.networks_to_train(case.learner.config))
    for name, (prefixes, metric, loss) in expected.items():
        if metric is not None:
            assert metrics[metric] == pytest.approx(loss(old), rel=1e-4, abs=1e-6), metric
        optimizer = case.learner.get_optimizer(DEFAULT_MODULE_ID, name)
        parameters = [p for p in old if p.split(".")[0] in prefixes]
        assert len(parameters) == len(optimizer.state)
        for parameter in parameters:
            gradient = 10 * optimizer.state[case.net.get_parameter(parameter)]["exp_avg"].numpy()
            place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
            sides = []
            for delta in (1e-6, -1e-6):
                changed = {**old, parameter: old[parameter].copy()}
                changed[parameter][place] += delta
                sides.append(loss(changed))
            slope = (sides[0] - sides[1]) / 2e-6
            assert gradient[place] == pytest.approx(slope, rel=2e-3, abs=1e-5), parameter
    still = set(old) - {p for p in old for prefixes, _, _ in expected.values() if p.split(".")[0] in prefixes}
    for name in still:
        if not name.startswith("target_"):
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)
            continue
        source = name.removeprefix("target_")
        lerp = (1 - TAU) * old[name] + TAU * new[source]
        np.testing.assert_allclose(new[name], lerp, atol=1e-6, err_msg=name)
        assert not np.array_equal(new[name], old[name]), name


@pytest.mark.parametrize("method", ["TD3", "TD3_BC"])
def test_actor_and_targets_wait_for_the_critics(make: Callable[..., Case], method: str) -> None:
    case = make(method, policy_delay=3)
    for index in range(6):
        old, new, metrics = case.step(index)
        moved = {name.split(".")[0] for name in old if not np.array_equal(old[name], new[name])}
        turn = index in (2, 5)
        assert moved == ({"q", "actor", "target_q", "target_actor"} if turn else {"q"})
        assert ("losses/actor_loss" in metrics) == turn


def test_density_of_a_squashed_gaussian(make: Callable[..., Case]) -> None:
    net, noise = make("SAC").net, torch.randn(200, 2, generator=torch.manual_seed(0))
    states = torch.randn(200, net.state_dim, generator=torch.manual_seed(1))
    action, log_density = net.sample(states, noise)
    mean, log_std = net.actor.distribution(states)
    plain = Independent(TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1)), 1)
    unit = torch.tanh(mean + log_std.exp() * noise)
    inside = (unit.abs() < 0.999).all(dim=1)  # beyond, the inverse of tanh loses its digits
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(log_density[inside], plain.log_prob(unit)[inside], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(action, torch.tensor(LOW) + (unit + 1) * torch.tensor(HALF))
    assert torch.isfinite(net.sample(states, 1e3 * noise)[1]).all()


@pytest.mark.parametrize(("log_std", "rises"), [(-4.0, True), (0.5, False)])
def test_temperature_rises_where_entropy_is_short(make: Callable[..., Case], log_std: float, rises: bool) -> None:
    """Entropy aimed at: -2. A narrow Gaussian has less, one that covers the bounds more."""
    case = make("SAC")
    case.learner.noise = lambda width, draw=0: torch.tensor(case.noise(width, draw) / 2)
    with torch.no_grad():
        for layer, bias in ((case.net.actor.net[-1], 0.0), (case.net.actor.log_std, log_std)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
    old, new, _ = case.step()
    assert (new["temperature.log"] > old["temperature.log"]) == rises


def test_divergence_from_the_prior() -> None:
    generator = torch.manual_seed(0)
    mean, std = torch.randn(50, 4, generator=generator), torch.rand(50, 4, generator=generator) + 0.1
    expected = kl_divergence(Normal(mean, std), Normal(torch.zeros(50, 4), torch.ones(50, 4)))
    torch.testing.assert_close(bcq_file.kl_divergence(mean, std), expected)


def test_bcq_acts_by_fixed_latents(make: Callable[..., Case]) -> None:
    """Zero and clipped draws of the seed; the best by Q1 of every candidate, one state at a time."""
    case = make("BCQ", candidates=7)
    latents, states = case.net.latents.numpy(), case.batch["obs"]
    assert latents.shape == (7, 4)
    assert not latents[0].any()
    assert np.abs(latents).max() == 0.5
    np.testing.assert_array_equal(latents, make("BCQ", candidates=7).net.latents.numpy())
    with torch.no_grad():
        actions = case.net.actor(torch.tensor(states)).numpy()
    weights = case.weights()
    for state, action in zip(states, actions, strict=True):
        rows = np.tile(state, (7, 1))
        decoded = scaled(mlp(weights, "decoder.net", rows, latents))
        step = 0.05 * HALF * np.tanh(mlp(weights, "perturbation.net", rows, decoded))
        candidates = np.clip(decoded + step, LOW, HIGH)
        np.testing.assert_allclose(action, candidates[q(weights, "q.0", rows, candidates).argmax()], atol=1e-5)
