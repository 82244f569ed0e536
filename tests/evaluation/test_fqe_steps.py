"""Fitted-Q, update by update, against a plain loop that shares no code with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_made import made_histories
from torch import nn

from prefrec_ray.evaluation.estimators import fqe
from prefrec_ray.evaluation.estimators.fqe import FittedQFunction, action_value, fit_q, pairs_of, steps
from prefrec_ray.evaluation.settings import FqeSettings
from prefrec_ray.users.histories import Histories

UPDATES, GAMMA, SEED = 6, 0.7, 4


@pytest.fixture(scope="module")
def data() -> Histories:
    """Five users with seven sessions of 1 to 3 requests, states of 3 numbers, actions of 2."""
    rng = np.random.default_rng(1)
    depth = rng.integers(1, 4, 35)
    n = depth.sum()
    level = rng.uniform(0, 5, 35)
    state, action = rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n, 2)).astype(np.float32)
    first, user = np.cumsum(depth) - depth, np.repeat(np.arange(5), 7)
    return made_histories(state, action, first, user, level)


def plain_fit(data: Histories, acts: np.ndarray, among: np.ndarray | None) -> tuple[nn.Sequential, float, float]:
    """The network, and the mean and the deviation of the levels."""
    known = steps(data, data.depth_level)
    levels = [float(r) for r, ends in zip(known.reward, known.ends, strict=True) if ends]
    mean = sum(levels) / len(levels)
    std = (sum((level - mean) ** 2 for level in levels) / len(levels)) ** 0.5
    low, high = ((bound - mean) / std / (1 - GAMMA) for bound in (min(levels), max(levels)))

    def network() -> nn.Sequential:
        last = nn.Linear(64, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), last)

    torch.manual_seed(SEED)
    net, target = network(), network()
    target.load_state_dict(net.state_dict())
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    rng = np.random.default_rng(SEED)
    choice = list(range(len(known.row))) if among is None else among.tolist()
    for update in range(UPDATES):
        inputs, targets = [], []
        for place in rng.integers(0, len(choice), 256):
            step = choice[place]
            row = int(known.row[step])
            inputs.append(np.concatenate([data.state[row], data.action[row]]))
            following = torch.from_numpy(np.concatenate([data.state[row + 1], acts[row + 1]]))
            with torch.no_grad():
                after = min(max(target(following).item(), low), high)
            reward = (known.reward[step] - mean) / std if known.ends[step] else 0.0
            targets.append(reward + (GAMMA if known.ends[step] else 1.0) * after)
        adam.param_groups[0]["lr"] = 1e-3 * (1 - update / UPDATES)
        adam.zero_grad()
        loss = (net(torch.from_numpy(np.stack(inputs))).squeeze(1) - torch.tensor(targets, dtype=torch.float32)) ** 2
        loss.mean().backward()
        adam.step()
        with torch.no_grad():
            for ours, theirs in zip(net.parameters(), target.parameters(), strict=True):
                theirs.copy_(0.7 * theirs + 0.3 * ours)
    return net, mean, std


@pytest.mark.parametrize(
    ("redrawn", "spread", "sign"),
    [(False, 1, 1), (True, 1, 1), (False, 1000, 1), (False, 1000, -1)],  # values far below the lowest level, far above
)
def test_every_update_is_that_of_a_plain_loop(data: Histories, redrawn: bool, spread: float, sign: float) -> None:
    data = replace(data, depth_level=sign * data.depth_level)
    known = steps(data, data.depth_level)
    acts = np.random.default_rng(2).normal(scale=spread, size=data.action.shape).astype(np.float32)
    among = known.redrawn(np.random.default_rng(3)) if redrawn else None
    net, mean, std = plain_fit(data, acts, among)
    fitted_q = fit_q(data, known, acts, FqeSettings(gamma_session=GAMMA, updates=UPDATES), SEED, among)
    with torch.no_grad():
        q = net(torch.from_numpy(np.concatenate([data.state, data.action], axis=1))).squeeze(1).double().numpy()
    assert np.abs(q).max() > 0.02
    assert fitted_q.mean == pytest.approx(mean)
    assert fitted_q.scale == pytest.approx((1 - GAMMA) * std)
    np.testing.assert_allclose(fitted_q.net(pairs_of(data.state, data.action)).detach().numpy(), q, atol=1e-5)
    np.testing.assert_allclose(fitted_q.mean_level(data.state, data.action), mean + (1 - GAMMA) * std * q, atol=1e-5)


def test_targets_stay_between_the_lowest_and_the_highest_level(data: Histories) -> None:
    """With one update a session all values would run away without the bounds: the target is the network itself."""
    known = steps(data, data.depth_level)
    fitted_q = fit_q(data, known, data.action, FqeSettings(gamma_session=0.99, updates=300), SEED)
    levels = known.reward[known.ends]
    values = fitted_q.mean_level(data.state, data.action)
    width = levels.max() - levels.min()
    assert values.min() > levels.min() - 0.2 * width
    assert values.max() < levels.max() + 0.2 * width


def test_values_are_asked_for_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = action_value(3)
    nn.init.normal_(net.net[-1].weight)
    rng = np.random.default_rng(0)
    state, action = rng.normal(size=(10, 2)), rng.normal(size=(10, 1))
    with torch.no_grad():
        expected = 1.0 + 2.0 * net(pairs_of(state, action)).double().numpy()
    sizes: list[int] = []
    net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setattr(fqe, "_CHUNK", 4)
    values = FittedQFunction(net, 1.0, 2.0).mean_level(state, action)
    assert sizes == [4, 4, 2]
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_an_action_value_starts_at_zero_and_is_one_number_a_pair() -> None:
    values = action_value(3)(pairs_of(np.ones((4, 2)), np.ones((4, 1))))
    assert values.dtype == torch.float32
    assert values.tolist() == [0.0] * 4
