"""The distribution of a policy: exact propensities for any excluded items and any k."""

from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.catalogue import Cells
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import EXACT, ItemTable
from prefrec_ray.mdp.plackett_luce import plackett_luce
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy.distribution import Distribution
from prefrec_ray.policy.landmarks import ALL_SCORED
from prefrec_ray.policy.networks.actors import Density, GaussianActor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.policy.weighing import Situations
from tests.policy.test_policy import make_critic, make_policy, make_states

DRAWS = 300_000


@dataclass
class Linear:
    """Scores that a test can write down: states [n, A] times actions."""

    standardised: ClassVar[bool] = True

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        return np.einsum("na,nka->nk", states, candidates, optimize=True)


def items_of(count: int, seed: int = 0) -> ItemTable:
    return ItemTable(np.arange(count) + 100, np.random.default_rng(seed).uniform(-1, 1, (count, 3)))


def distribution(items: int, **serving: object) -> Distribution:
    return Distribution(items_of(items), ServingSettings(**serving).resolved(), Linear())


def drawn(pi: Distribution, states: np.ndarray, k: int, out: np.ndarray | None = None, seed: int = 0) -> tuple:
    excluded = None if out is None else ExcludedItems.from_mask(out)
    return tuple(pi.draw(Situations(states, excluded), states, k, np.random.default_rng(seed)))


def test_plackett_luce_draws_orders_as_often_as_their_product_says() -> None:
    logits = np.array([0.3, -1.0, 1.2, -np.inf, 0.0])
    columns, known = plackett_luce(np.tile(logits, (DRAWS, 1)), 2, np.random.default_rng(0))
    weights = np.exp(logits)
    pairs = list(permutations([0, 1, 2, 4], 2))
    expected = [weights[a] / weights.sum() * weights[b] / (weights.sum() - weights[a]) for a, b in pairs]
    counts = [(columns == pair).all(axis=1).sum() for pair in pairs]
    assert sum(counts) == DRAWS
    assert chisquare(counts, np.array(expected) * DRAWS).pvalue > 0.01
    for pair, probability in zip(pairs, expected, strict=True):
        np.testing.assert_allclose(known[(columns == pair).all(axis=1)].prod(axis=1), probability, rtol=1e-9)


@dataclass(frozen=True)
class Saturated(Critic):
    """Q goes on along the state; of two expected answers one does not change any more from some way on."""

    def expected(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        along = np.clip(Linear().scores(states, candidates), -0.1, 0.1)
        return np.stack([along, np.abs(candidates[..., 0])], axis=-1).astype(np.float32)

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        if self.worth is None:
            return Linear().scores(states, candidates)
        return self.expected(states, candidates) @ self.worth


def saturated(items: ItemTable) -> Saturated:
    """Read in some states."""
    answers = ExpectedFeedback.random(3, 3, [4], (), 2)
    states = np.random.default_rng(5).normal(size=(30, 3)).astype(np.float32)
    return Saturated([QFunction.random(3, 3, [4], ())], answers=answers).with_worth(states, items.embeddings)


@pytest.mark.parametrize("rule", ["sample", "best"])
@pytest.mark.parametrize("count", [400, 2_000])
def test_items_that_draw_the_same_answers_are_worth_the_same(count: int, rule: str) -> None:
    by_q = distribution(count, rule=rule)
    scorer = saturated(by_q.items)
    assert scorer.worth[0] > 20 * abs(scorer.worth[1])  # the second kind of feedback does not depend on quality
    pi = replace(by_q, scorer=replace(scorer, worth=scorer.worth * np.float32([1.0, 0.0])))
    state = np.float32([[0.5, -0.2, 0.1]])
    along = pi.items.embeddings @ state[0]
    assert (along > 0.1).sum() > 20
    if rule == "best":
        rows, _ = drawn(pi, state, 20)
        assert (along[rows] > 0.1).all()
        assert set(rows[0].tolist()) != set(np.argsort(-along)[:20].tolist())
        return
    known = pi.probabilities(Situations(np.tile(state, (count, 1))), np.arange(count))
    near = np.argsort(-along)[:20]
    assert np.ptp(np.log(by_q.probabilities(Situations(np.tile(state, (20, 1))), near))) > 1
    if count <= ALL_SCORED:
        np.testing.assert_allclose(known[near], known[near[0]], rtol=1e-4)
    assert known[along > 0.1].sum() > 0.9


@pytest.mark.parametrize(
    ("count", "read", "exact"),
    [(40, False, EXACT), (40, True, EXACT), (1_000, True, EXACT), (1_000, False, 100), (1_000, True, 100)],
)
def test_items_are_drawn_with_the_frequency_of_their_propensity(
    count: int, read: bool, exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items are drawn by all scores or in two steps, some are excluded, and scores are Q or expected feedback."""
    monkeypatch.setattr("prefrec_ray.policy.distribution.EXACT", exact)
    pi, draws = distribution(count, temperature=0.3), DRAWS if count < 1_000 else DRAWS // 6
    pi = replace(pi, scorer=saturated(pi.items)) if read else pi
    state = np.float32([[0.5, -0.2, 0.1]])
    out = np.random.default_rng(1).random((1, count)) < 0.3
    rows, known = drawn(pi, np.tile(state, (draws, 1)), 1, np.tile(out, (draws, 1)))
    excluded = ExcludedItems.from_mask(np.tile(out, (count, 1)))
    expected = pi.probabilities(Situations(np.tile(state, (count, 1)), excluded), np.arange(count))
    assert expected.sum() == pytest.approx(1)
    assert (expected[out[0]] == 0).all()
    np.testing.assert_allclose(known[:, 0], expected[rows[:, 0]], rtol=1e-5)  # float32 products of other shapes
    served = np.bincount(rows[:, 0], minlength=count)
    assert (served[expected == 0] == 0).all()
    # Items that are rarely drawn are one cell, as the test holds only for cells of some draws.
    frequent = expected * draws >= 5
    counts, likely = (np.append(part[frequent], part[~frequent].sum()) for part in (served, expected))
    counts, likely = counts[likely > 0], likely[likely > 0]
    assert chisquare(counts, likely / likely.sum() * draws).pvalue > 0.01


def test_the_second_position_is_drawn_from_what_is_left() -> None:
    pi = distribution(1_000, temperature=0.2)
    states = np.tile(np.float32([[1.0, 0.3, 0.0]]), (5_000, 1))
    rows, known = drawn(pi, states, 2)
    for row, first in enumerate(rows[:300, 0]):
        out = np.zeros((1, 1_000), dtype=bool)
        out[0, first] = True
        expected = pi.probabilities(Situations(states[:1], ExcludedItems.from_mask(out)), rows[row, 1:])
        assert known[row, 1] == pytest.approx(expected[0], rel=1e-5)
    assert (rows[:, 0] != rows[:, 1]).all()


def test_from_one_cell_it_is_the_softmax_of_the_scores() -> None:
    pi = distribution(40, temperature=0.5)
    states = np.random.default_rng(2).normal(size=(7, 3)).astype(np.float32)
    rows, known = drawn(pi, states, 1)
    for state, row, probability in zip(states, rows[:, 0], known[:, 0], strict=True):
        scores = pi.items.embeddings.astype(float) @ state
        weights = np.exp(scores / (0.5 * scores.std()))
        assert probability == pytest.approx(weights[row] / weights.sum(), rel=1e-5)
    np.testing.assert_array_equal(drawn(pi, 100 * states, 1)[0], rows)  # the scale of Q does not count


@pytest.mark.parametrize("temperature", [0.15, 0.5])
def test_two_steps_come_near_to_the_softmax_of_all_scores(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean score of served items equals the mean score of an exact softmax within .02."""
    monkeypatch.setattr("prefrec_ray.policy.distribution.EXACT", 1_000)
    pi = distribution(4_000, temperature=temperature)
    states = np.random.default_rng(3).normal(size=(2_000, 3)).astype(np.float32)
    scores = states @ pi.items.embeddings.T
    scores = (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True)
    weights = np.exp(scores / temperature)
    exact = (weights * scores).sum(axis=1) / weights.sum(axis=1)
    rows = drawn(pi, states, 1)[0]
    assert np.take_along_axis(scores, rows, axis=1).mean() == pytest.approx(exact.mean(), abs=0.02)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    count=st.sampled_from([30, ALL_SCORED + 1, 800]),
    candidates=st.sampled_from(["nearest", "catalogue"]),
    rule=st.sampled_from(["sample", "best"]),
    exact=st.sampled_from([EXACT, ALL_SCORED]),
    temperature=st.sampled_from([1e-3, 0.5, 1e3]),
    share=st.floats(0, 0.99),
    data=st.data(),
)
def test_whatever_may_not_be_shown_is_not_and_nothing_twice(
    seed: int,
    count: int,
    candidates: str,
    rule: str,
    exact: int,
    temperature: float,
    share: float,
    data: st.DataObject,
) -> None:
    with patch("prefrec_ray.policy.distribution.EXACT", exact):
        check_what_is_shown(seed, count, candidates, rule, temperature, share, data)


def check_what_is_shown(
    seed: int, count: int, candidates: str, rule: str, temperature: float, share: float, data: st.DataObject
) -> None:
    """For some states, items that may not be shown and k's, up to all that are left."""
    serving = {"candidates": candidates, "rule": rule, "temperature": temperature, "count": 16}
    pi = distribution(count, **serving)
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(3, 3)).astype(np.float32)
    out = rng.random((3, count)) < share
    out[:, 0] = False
    left = (~out).sum(axis=1).min()
    k = data.draw(st.sampled_from(sorted({1, min(2, left), left})))
    rows, known = drawn(pi, states, k, out, seed)
    assert not np.take_along_axis(out, rows, axis=1).any()
    assert all(len(set(row)) == k for row in rows.tolist())
    assert ((known > 0) & (known <= 1 + 1e-12)).all()
    assert (known[:, 0] == 1).all() == (rule == "best" or known[:, 0].min() == 1)
    again = drawn(pi, states, k, out, seed)
    np.testing.assert_array_equal(again[0], rows)
    with pytest.raises(UserError, match=rf"found k = {left + 1}; "):
        drawn(pi, states, left + 1, out)


def test_what_one_user_has_seen_is_no_matter_for_the_candidates_of_another() -> None:
    pi = distribution(40, candidates="nearest", count=16, temperature=2.0)
    states = np.repeat(np.random.default_rng(6).normal(size=(1, 3)).astype(np.float32), 401, axis=0)
    out = np.zeros((401, 40), dtype=bool)
    out[400, 3:] = True  # the last may be shown three items only
    by_item = dict(zip(*(column[:, 0].tolist() for column in drawn(pi, states, 1)), strict=True))
    rows, known = (column[:, 0] for column in drawn(pi, states, 1, out, seed=1))
    assert set(by_item) == set(rows[:400].tolist()) == set(pi.items.nearest(states[:1], 16)[0].tolist())
    np.testing.assert_allclose(known[:400], [by_item[row] for row in rows[:400].tolist()], rtol=1e-6)
    assert rows[400] in (0, 1, 2)


def test_the_best_are_those_of_the_largest_score() -> None:
    pi = distribution(700, rule="best")
    states = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)
    rows, known = drawn(pi, states, 9)
    np.testing.assert_array_equal(rows, np.argsort(-(states @ pi.items.embeddings.T), axis=1)[:, :9])
    assert (known == 1).all()


@pytest.mark.parametrize("scorer", [Linear(), make_critic(0)])
def test_the_best_of_a_large_catalogue_are_found_in_two_steps(scorer: Linear | Critic) -> None:
    """Nearly all of the ten largest scores are found for any excluded items; the loss is below .01 deviations."""
    pi = replace(distribution(12_000, rule="best"), scorer=scorer)
    rng = np.random.default_rng(4)
    states = rng.normal(size=(200, scorer.networks[0].widths[0] if isinstance(scorer, Critic) else 3))
    states, out = states.astype(np.float32), rng.random((200, 12_000)) < 0.3
    rows, known = drawn(pi, states, 10, out)
    assert (known == 1).all()
    scores = scorer.scores(states, np.broadcast_to(pi.items.embeddings, (200, 12_000, 3)))
    largest = np.argsort(np.where(~out, -scores, np.inf), axis=1)[:, :10]
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), largest.tolist(), strict=True)]
    assert np.mean(shared) > 0.99
    found, best = (np.take_along_axis(scores, of, axis=1) for of in (rows, largest))
    assert ((best - found).mean(axis=1) / scores.std(axis=1)).max() < 0.01
    assert (np.diff(found, axis=1) <= 1e-4).all()  # products of other shapes round otherwise


def test_cells_hold_every_item_once_and_are_of_one_size() -> None:
    embeddings = items_of(5_000).embeddings
    cells = Cells.from_embeddings(embeddings)
    members = cells.members[cells.members >= 0]
    assert sorted(members) == list(range(5_000))
    sizes = (cells.members >= 0).sum(axis=1)
    assert sizes.max() - sizes.min() <= 1
    assert all((cells.cell[row[row >= 0]] == number).all() for number, row in enumerate(cells.members))
    assert len(sizes) == 256  # 4 sqrt(5,000), as a power of two
    for row in cells.members:
        own = embeddings[row[row >= 0]]
        away = np.square(own - own.mean(axis=0)).sum(axis=1)
        assert away[0] == away.min()


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "clustered"])
def test_the_index_finds_what_a_look_at_all_finds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, count = np.random.default_rng(5), 60_000
    centres = rng.uniform(-1, 1, (300, 8))[rng.integers(0, 300, count)]
    embeddings = {
        "uniform": rng.uniform(-1, 1, (count, 8)),
        "gaussian": 0.4 * rng.normal(size=(count, 8)),
        "clustered": centres + 0.05 * rng.normal(size=(count, 8)),
    }[kind]
    table = ItemTable(np.arange(count), embeddings)
    corners = np.sign(rng.normal(size=(100, 8)))
    actions = np.concatenate([corners, table.embeddings[:100] + 0.05 * rng.normal(size=(100, 8))]).astype(np.float32)
    rows = table.nearest(actions, 64)
    out = np.zeros((200, count), dtype=bool)
    np.put_along_axis(out, rows[:, ::2], True, axis=1)
    rest = table.nearest(actions, 64, ExcludedItems.from_mask(out))
    assert not np.take_along_axis(out, rest, axis=1).any()
    monkeypatch.setattr("prefrec_ray.mdp.items.EXACT", 10**9)
    for indexed, exact in (
        (rows, table.nearest(actions, 64)),
        (rest, table.nearest(actions, 64, ExcludedItems.from_mask(out))),
    ):
        shared = [len(set(a) & set(b)) / 64 for a, b in zip(indexed.tolist(), exact.tolist(), strict=True)]
        assert np.mean(shared) >= 0.995
    assert count > EXACT


def test_serve_takes_ids_or_a_mask_and_gives_ids() -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings())
    states = make_states(3)
    mask = np.zeros((3, 40), dtype=bool)
    mask[0, :35], mask[2, 7] = True, True
    ids = [policy.items.ids[:35], np.array([]), np.array(["item 7", "an item that is gone"])]
    by_mask, by_ids = (policy.serve(states, 5, exclude, seed=3) for exclude in (mask, ids))
    np.testing.assert_array_equal(by_mask.items, by_ids.items)
    np.testing.assert_array_equal(by_mask.propensities, by_ids.propensities)
    assert set(by_ids.items[0]) == set(policy.items.ids[35:])
    np.testing.assert_array_equal(policy.serve(states, 5, ids, seed=3).items, by_ids.items)
    assert len({tuple(policy.serve(states, 5).items[0]) for _ in range(20)}) > 1  # without a seed, draws differ
    with pytest.raises(UserError, match=r"exclude: found 2 arrays of ids; expected 3, one for each state"):
        policy.serve(states, 1, ids[:2])
    with pytest.raises(UserError, match=r"exclude: found a mask of shape \[3, 39\]; expected \[3, 40\]"):
        policy.serve(states, 1, mask[:, 1:])
    with pytest.raises(UserError, match=r"found k = 6; expected at most 5, the items left for row 0 of the states"):
        policy.serve(states, 6, mask)


def test_items_come_and_go_without_training() -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings())
    rng = np.random.default_rng(6)
    table = ItemTable(np.array(["item 3", "new"]), np.stack([policy.items.embeddings[3], rng.uniform(-1, 1, 3)]))
    other = policy.with_items(table.to_table())
    assert set(other.serve(make_states(50), 1, seed=0).items.ravel()) == {"item 3", "new"}
    assert len(policy.items) == 40
    with pytest.raises(UserError, match="the items have 2"):
        policy.with_items(ItemTable(np.arange(3), np.zeros((3, 2))))


def test_a_deterministic_actor_has_the_density_of_its_deviation() -> None:
    policy = make_policy(serving=ServingSettings(), deviation=0.5)
    states = make_states(4)
    drawn = policy.serve(states, 1, seed=0)
    actions = replace(policy, serving=ServingSettings(rule="best", candidates="nearest", count=1, variety=0.0)).act(
        states
    )
    for action, item, probability in zip(actions, drawn.items[:, 0], drawn.propensities[:, 0], strict=True):
        weights = np.exp(-0.5 * np.square(policy.items.embeddings - action).sum(axis=1) / 0.25)
        row = int(item.removeprefix("item "))
        assert probability == pytest.approx(weights[row] / weights.sum(), rel=1e-4)


@pytest.mark.parametrize("state_deviation", [True, False])
def test_a_gaussian_actor_has_its_own_density(state_deviation: bool) -> None:
    """torch's own distribution, transformed by tanh and to the bounds, differs by a constant of the state."""
    torch.manual_seed(0)
    low, high = np.float32([-1, 0]), np.float32([1, 0.5])
    actor = GaussianActor(mlp(4, (8,), 2), low, high, state_deviation)
    with torch.no_grad():
        (actor.log_std.bias if state_deviation else actor.log_std.value).copy_(torch.tensor([-0.5, 0.3]))
    states = torch.randn(3, 4)
    actions = (
        torch.tensor(low) + torch.rand(3, 5, 2) * torch.tensor(high - low) * 0.98 + 0.01 * torch.tensor(high - low)
    )
    with torch.no_grad():
        mean, log_std = actor.distribution(states)
    normal = torch.distributions.Normal(mean[:, None], log_std.exp() if log_std.ndim == 1 else log_std.exp()[:, None])
    affine = torch.distributions.AffineTransform(torch.tensor((low + high) / 2), torch.tensor((high - low) / 2))
    squashed = torch.distributions.TransformedDistribution(normal, [torch.distributions.TanhTransform(), affine])
    expected = squashed.log_prob(actions).sum(-1).numpy()
    stored = GaussianActor.from_parts(
        {name: p if name == "layers" else p.detach().numpy() for name, p in actor.parts.items()}, low, high
    )
    for one in (actor, stored):
        scores = Density(one).scores(states.numpy(), actions.numpy())
        np.testing.assert_allclose(scores - scores[:, :1], expected - expected[:, :1], atol=1e-3)
