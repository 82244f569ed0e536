"""The yardstick itself, against closed forms, torch's Adam and numpy."""

import itertools
import math

import numpy as np
import pytest
import torch
from plain_algorithm1 import Adam, PlainPrefRec, expectile_loss, mlp, parameters, preference_loss

S, A, B, L = 5, 2, 16, 7
SETTINGS = {
    "gamma": 0.9,
    "expectile": 0.7,
    "tau": 0.05,
    "actor_lr": 0.03,
    "critic_lr": 0.05,
    "value_lr": 0.04,
    "reward_lr": 0.02,
}


def network(rng, *sizes):
    return [
        (rng.normal(0, 0.5, (n, m)).astype(np.float32), rng.normal(0, 0.5, n).astype(np.float32))
        for m, n in itertools.pairwise(sizes)
    ]


def build(rng, reward_width=S + A, **settings):
    nets = {
        "reward": network(rng, reward_width, 8, 1),
        "value": network(rng, S, 8, 1),
        "q": network(rng, S + A, 8, 1),
        "target_q": network(rng, S + A, 8, 1),
        "actor": network(rng, S, 8, A),
    }
    return PlainPrefRec.from_state(nets, **SETTINGS | settings)


def transitions(rng):
    return [rng.normal(size=(B, width)).astype(np.float32) for width in (S, A, S)]


def segments(rng):
    widths = {"states": S, "actions": A, "next_states": S}
    return {name: rng.normal(size=(B, L, width)).astype(np.float32) for name, width in widths.items()}


def weights(plain):
    return {
        name: [(w.detach().numpy().copy(), b.detach().numpy().copy()) for w, b in net]
        for name, net in plain.nets.items()
    }


def numpy_mlp(net, *inputs):
    """The same function in float64 numpy."""
    x = np.concatenate(inputs, axis=-1).astype(np.float64)
    for w, b in net[:-1]:
        x = np.maximum(x @ w.T.astype(np.float64) + b, 0)
    w, b = net[-1]
    return x @ w.T.astype(np.float64) + b


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_adam_equals_torchs():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(64, 3, generator=generator)
    start = [torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator)]
    ours, theirs = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    adam, optimiser = Adam(ours, lr=0.01), torch.optim.Adam(theirs, lr=0.01)

    def loss(p):
        return (torch.sin(data @ p[0].T + p[1]) ** 2).mean()

    for _ in range(20):
        optimiser.zero_grad()
        loss(theirs).backward()
        optimiser.step()
        adam.descend(loss(ours))
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert (ours[0] - start[0]).abs().max() > 0.05


@pytest.mark.parametrize(("u", "gradient"), [(2.0, 2 * 0.7 * 2), (-2.0, 2 * 0.3 * -2), (0.0, 0.0)])
def test_expectile_gradient(u, gradient):
    x = torch.tensor([u], requires_grad=True)
    (slope,) = torch.autograd.grad(expectile_loss(x, 0.7), x)
    assert slope.item() == pytest.approx(gradient, rel=1e-6)


def test_expectile_of_one_half_is_half_the_squared_error():
    u = torch.tensor([-3.0, 0.5, 2.0])
    assert expectile_loss(u, 0.5).item() == pytest.approx((9 + 0.25 + 4) / 3 / 2)


@pytest.mark.parametrize("label", [0.0, 0.5, 1.0])
def test_equal_segments_cost_ln_2(rng, label):
    segment = segments(rng)
    loss = build(rng).pretrain_step(segment, segment, np.full(B, label))["reward_loss"]
    assert loss == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("label", [0.0, 0.5, 1.0])
def test_preference_loss_closed_form(label):
    p = 1 / (1 + math.exp(-1.5))  # the second is ahead by 1.5
    loss = preference_loss(torch.tensor([1.0]), torch.tensor([2.5]), torch.tensor([label]))
    assert loss.item() == pytest.approx(-(label * math.log(p) + (1 - label) * math.log(1 - p)), rel=1e-5)


def test_pretraining_sums_the_raw_reward_and_moves_nothing_else(rng):
    plain, (first, second) = build(rng, reward_mean=4.0, reward_std=0.1), (segments(rng), segments(rng))
    before, label = weights(plain), rng.integers(0, 2, B)
    sums = [numpy_mlp(before["reward"], s["states"], s["actions"]).sum(axis=(1, 2)) for s in (first, second)]
    margin = (sums[1] - sums[0]) * np.where(label == 1, 1, -1)
    loss = plain.pretrain_step(first, second, label)["reward_loss"]
    assert loss == pytest.approx(np.logaddexp(0, -margin).mean(), rel=1e-5)
    after = weights(plain)
    moved = {n for n in after if any(not np.array_equal(*pair) for pair in zip(before[n][0], after[n][0], strict=True))}
    assert moved == {"reward"}
    losses = [plain.pretrain_step(first, second, label)["reward_loss"] for _ in range(100)]
    assert losses[-1] < 0.1 * loss


def test_the_rewards_offset_rests(rng):
    """Preferences do not depend on a constant added to r, and Adam must not turn rounding errors into steps."""
    plain = build(rng)
    bias = plain.nets["reward"][-1][1]
    before = bias.item()
    for _ in range(50):
        plain.pretrain_step(segments(rng), segments(rng), rng.choice([0, 0.5, 1], B))
    assert bias.item() == before


def test_order_and_losses_of_a_step(rng):
    """Each loss in numpy, from the networks Algorithm 1 has updated by then; at large rates a wrong order shows."""
    low, high = np.array([-1, 0.5], np.float32), np.array([1, 2], np.float32)
    plain = build(rng, reward_mean=0.3, reward_std=0.5, action_low=low, action_high=high)
    for _ in range(3):
        (s, a, s2), preferences = transitions(rng), (segments(rng), segments(rng), rng.integers(0, 2, B))
        old = weights(plain)
        losses = plain.step(s, a, s2, preferences)
        new = weights(plain)

        u = numpy_mlp(old["target_q"], s, a) - numpy_mlp(old["value"], s)
        assert losses["value_loss"] == pytest.approx(np.mean(np.where(u < 0, 0.3, 0.7) * u**2), rel=1e-4)
        r = (numpy_mlp(old["reward"], s, a) - 0.3) / 0.5
        td = r + 0.9 * numpy_mlp(new["value"], s2) - numpy_mlp(old["q"], s, a)
        assert losses["q_loss"] == pytest.approx(np.mean(td**2), rel=1e-4)
        pi = low + (np.tanh(numpy_mlp(old["actor"], s)) + 1) / 2 * (high - low)
        assert losses["actor_loss"] == pytest.approx(-numpy_mlp(new["q"], s, pi).mean(), rel=1e-4)
        assert set(losses) == {"value_loss", "q_loss", "actor_loss", "reward_loss"}


def test_gradients_are_those_of_finite_differences(rng):
    """After one step the first moments are a tenth of the gradients, here the slopes of losses in float64 numpy."""
    plain, (s, a, s2) = build(rng), transitions(rng)
    old = weights(plain)
    plain.step(s, a, s2)
    new = weights(plain)

    def value_loss(net):
        u = numpy_mlp(old["target_q"], s, a) - numpy_mlp(net, s)
        return np.mean(np.where(u < 0, 0.3, 0.7) * u**2)

    def q_loss(net):
        target = numpy_mlp(old["reward"], s, a) + 0.9 * numpy_mlp(new["value"], s2)
        return np.mean((target - numpy_mlp(net, s, a)) ** 2)

    def actor_loss(net):
        return -numpy_mlp(new["q"], s, np.tanh(numpy_mlp(net, s))).mean()

    for name, loss in {"value": value_loss, "q": q_loss, "actor": actor_loss}.items():
        for layer in range(2):
            sides = []
            for delta in (1e-6, -1e-6):
                net = [[array.astype(np.float64) for array in pair] for pair in old[name]]
                net[layer][0][0, 0] += delta
                sides.append(loss(net))
            slope = (sides[0] - sides[1]) / 2e-6
            assert 10 * plain.adam[name].first[2 * layer][0, 0].item() == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_each_network_has_its_own_rate(rng):
    """Adam's first step is the learning rate for any gradient."""
    plain = build(rng)
    before = weights(plain)
    plain.step(*transitions(rng), (segments(rng), segments(rng), np.ones(B)))
    after = weights(plain)
    for name, rate in {"actor": "actor_lr", "q": "critic_lr", "value": "value_lr", "reward": "reward_lr"}.items():
        moved = np.abs(after[name][0][0] - before[name][0][0]).max()
        assert moved == pytest.approx(SETTINGS[rate], rel=1e-3)


def test_target_moves_by_tau_of_the_gap(rng):
    plain = build(rng)
    for _ in range(5):
        before = weights(plain)["target_q"]
        plain.step(*transitions(rng))
        after = weights(plain)
        for old, new, q in zip(before, after["target_q"], after["q"], strict=True):
            for x, y, z in zip(old, new, q, strict=True):
                np.testing.assert_allclose(y - x, SETTINGS["tau"] * (z - x), rtol=1e-4, atol=1e-6)
    assert not any(p.requires_grad for p in parameters(plain.nets["target_q"]))


def test_next_state_reward_sees_only_its_columns(rng):
    plain = build(rng, reward_width=2, reward_input="next_state", reward_columns=np.array([3, 1]))
    obs, action, next_obs = (torch.as_tensor(x) for x in transitions(rng))
    expected = mlp(plain.nets["reward"], torch.stack([next_obs[:, 3], next_obs[:, 1]], dim=1))[:, 0]
    torch.testing.assert_close(plain.reward(obs, action, next_obs), expected)
    elsewhere = next_obs.clone()
    elsewhere[:, [0, 2, 4]] += 1
    torch.testing.assert_close(plain.reward(obs + 1, action + 1, elsewhere), expected)


def test_reward_rests_without_fine_tuning(rng):
    plain, preferences = build(rng, finetune_reward=False), (segments(rng), segments(rng), np.ones(B))
    before = weights(plain)["reward"]
    assert "reward_loss" not in plain.step(*transitions(rng), preferences)
    for old, new in zip(before, weights(plain)["reward"], strict=True):
        np.testing.assert_array_equal(old[0], new[0])
