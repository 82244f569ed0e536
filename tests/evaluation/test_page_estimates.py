"""Estimates for pages against sums over all pages that can be shown."""

from dataclasses import replace
from itertools import permutations, product
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hand_made import linear_policy, made_histories, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.peers.pages import cascade_dr, page_values
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.behavior import BehaviorClone, fit_clone
from prefrec_ray.evaluation.estimators import importance_weights
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.fitted_q import corrections, residuals, user_means
from prefrec_ray.evaluation.estimators.fqe import steps
from prefrec_ray.evaluation.estimators.importance_weights import (
    ITEM_WEIGHTS,
    Logged,
    log_chances,
    weigh,
)
from prefrec_ray.evaluation.estimators.ncis import normalised_weights, session_log_weights, user_values
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.estimators.session_weights import (
    PAGE_WEIGHTS,
    ends,
    page_log_weights,
    page_request_weights,
    request_weights,
)
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.exposure import MEMORY
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.policy.networks.q import QFunction

ITEMS = 4
SEEDS = st.integers(0, 2**32 - 1)
#: Items of the page on which the reward at a position depends, by the weights that are exact for it.
SEEN = {
    "sips": lambda page, position: page,
    "rips": lambda page, position: page[: position + 1],
    "iips": lambda page, position: (page[position],),
}


class World:
    """All pages of 1 to 3 items, their chances under a logging policy and a policy, and rewards of a structure.

    Without `repeats` both policies are Plackett-Luce; with repeats positions are drawn independently.
    """

    def __init__(self, seed: int, structure: str, repeats: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.repeats = repeats
        self.laws = self.rng.dirichlet(np.ones(ITEMS) * 3, size=2)
        of_length = [product(range(ITEMS), repeat=k) if repeats else permutations(range(ITEMS), k) for k in (1, 2, 3)]
        self.pages = [page for pages in of_length for page in pages]
        self.first = np.cumsum([0, *(len(page) for page in self.pages[:-1])])
        self.reward = self.by_prefix(SEEN[structure])
        chances = [
            [[self.chance(law, page, at) for at in range(len(page))] for page in self.pages] for law in self.laws
        ]
        self.logging, self.policy = (np.array([prod(page) for page in law]) for law in chances)
        self.log_ratio = np.log(np.concatenate(chances[1])) - np.log(np.concatenate(chances[0]))

    def chance(self, law: np.ndarray, page: tuple[int, ...], position: int) -> float:
        """Chance of the item at a position, given the items before it."""
        return law[page[position]] / (1.0 if self.repeats else 1 - sum(law[item] for item in page[:position]))

    def by_prefix(self, seen) -> np.ndarray:
        """A random number for each position, equal for pages of equal length that show `seen` the same items."""
        numbers: dict[tuple, float] = {}
        keys = [(len(page), at, seen(page, at)) for page in self.pages for at in range(len(page))]
        return np.array([numbers.setdefault(key, self.rng.normal()) for key in keys])

    @property
    def truth(self) -> float:
        return float(self.policy @ np.add.reduceat(self.reward, self.first))

    def expected(self, values: np.ndarray) -> float:
        """Mean of the values of pages that the logging policy shows."""
        return float(self.logging @ values)


def estimate(world: World, weights: str) -> float:
    return world.expected(
        page_values(world.reward, page_log_weights(world.log_ratio, world.first, weights), world.first)
    )


@settings(max_examples=30)
@given(seed=SEEDS, structure=st.sampled_from(PAGE_WEIGHTS), repeats=st.booleans())
def test_weights_are_unbiased_for_rewards_of_their_own_structure_or_a_simpler_one(seed, structure, repeats):
    world = World(seed, structure, repeats)
    for weights in PAGE_WEIGHTS[: PAGE_WEIGHTS.index(structure) + 1]:
        if weights != "iips" or repeats:
            assert estimate(world, weights) == pytest.approx(world.truth, abs=1e-10)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_weights_of_independent_positions_are_exact_with_the_chance_of_an_item_at_its_position(seed):
    world = World(seed, "iips", repeats=False)
    places = [(len(page), at, page[at]) for page in world.pages for at in range(len(page))]
    page_of = np.repeat(np.arange(len(world.pages)), [len(page) for page in world.pages])
    marginal = np.zeros((2, len(places)))
    for law, chance in enumerate((world.logging, world.policy)):
        for row, place in enumerate(places):
            marginal[law, row] = sum(chance[page_of[other]] for other, there in enumerate(places) if there == place)
    log_ratio = np.log(marginal[1] / marginal[0])
    values = page_values(world.reward, page_log_weights(log_ratio, world.first, "iips"), world.first)
    assert world.expected(values) == pytest.approx(world.truth, abs=1e-10)


def test_weights_are_biased_for_rewards_that_depend_on_more_items():
    for structure, weights in (("sips", "rips"), ("sips", "iips"), ("rips", "iips")):
        world = World(1, structure, repeats=True)
        assert abs(estimate(world, weights) - world.truth) > 0.01


@settings(max_examples=30)
@given(seed=SEEDS, structure=st.sampled_from(["rips", "iips"]), repeats=st.booleans())
def test_cascade_dr_is_unbiased_for_any_q_and_equals_rips_without_q(seed, structure, repeats):
    world = World(seed, structure, repeats)
    q = dict(zip(prefixes(world), world.by_prefix(SEEN["rips"]), strict=True))
    v = np.zeros(len(world.reward))
    for row, (length, page) in enumerate(prefixes(world)):
        before = page[:-1]
        for item in range(ITEMS):
            if repeats or item not in before:
                shown = (*before, item)
                v[row] += world.chance(world.laws[1], shown, len(before)) * q[length, shown]
    own = np.array([q[key] for key in prefixes(world)])
    values = cascade_dr(world.reward, world.log_ratio, own, v, world.first)
    assert world.expected(values) == pytest.approx(world.truth, abs=1e-10)
    nothing = np.zeros(len(own))
    without = world.expected(cascade_dr(world.reward, world.log_ratio, nothing, nothing, world.first))
    assert without == pytest.approx(estimate(world, "rips"), abs=1e-12)


def prefixes(world: World) -> list[tuple[int, tuple[int, ...]]]:
    """Length of the page and its items up to each position."""
    return [(len(page), page[: at + 1]) for page in world.pages for at in range(len(page))]


@settings(max_examples=30)
@given(seed=SEEDS, weights=st.sampled_from(PAGE_WEIGHTS))
def test_normalised_values_are_exact_for_equal_rewards_on_any_pages(seed, weights):
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 5, 20)
    first = np.cumsum(length) - length
    log_weight = page_log_weights(rng.normal(size=length.sum()), first, weights)
    values = page_values(np.full(length.sum(), 2.5), log_weight, first, normalised=True)
    assert values.sum() == pytest.approx(2.5 * length.sum())


@settings(max_examples=30)
@given(seed=SEEDS)
def test_weights_of_one_item_per_page_are_those_of_impressions_to_the_last_digit(seed):
    rng = np.random.default_rng(seed)
    log_ratio, each = rng.normal(size=20) * 3, np.arange(20)
    first = np.flatnonzero(np.append(True, rng.random(19) < 0.3))
    for weights in PAGE_WEIGHTS:
        assert np.array_equal(page_log_weights(log_ratio, each, weights), log_ratio)
        assert np.array_equal(page_request_weights(log_ratio, first, each, weights), request_weights(log_ratio, first))


class Sessions:
    """All sessions of one or two pages of two of three items, as often as an even logging policy shows them.

    The policy's second page depends on the first item of the first page. The end and the level of a session depend on
    all items; with `only_last`, on the number of pages and the last item, and pages may repeat an item.
    """

    def __init__(self, seed: int, only_last: bool, repeats: bool) -> None:
        rng = np.random.default_rng(seed)
        pages = list(product(range(3), repeat=2) if repeats else permutations(range(3), 2))
        self.laws = rng.dirichlet(np.ones(3) * 3, size=4)  # of the second page by the first item; of the first page
        quarters, levels = rng.integers(1, 4, (3, 3)), rng.random((3, 3, 3, 3))
        rows, copies, level, chance = [], [], [], []
        for one in pages:
            leave = quarters[0, one[1]] if only_last else quarters[one]
            for other in (None, *pages):
                shown = [(3, *one)] if other is None else [(3, *one), (one[0], *other)]
                ratios = [ratio for page in shown for ratio in self.ratios(*page, repeats)]
                rows.append([(law, item) for law, *items in shown for item in items])
                copies.append(leave * len(pages) if other is None else 4 - leave)
                chance.append(copies[-1] / (4 * len(pages) ** 2) * prod(ratios))
                last = shown[-1][1:]
                level.append(levels[0, 0, len(shown), last[1]] if only_last else levels[(*one, *last)] + len(shown))
                rows[-1] = [(*row, ratio) for row, ratio in zip(rows[-1], ratios, strict=True)]
        self.truth = float(np.dot(chance, level))
        every = [session for session, count in enumerate(copies) for _ in range(count)]
        length = np.array([len(rows[session]) for session in every])
        self.first, self.level = np.cumsum(length) - length, np.array(level)[every]
        columns = zip(*(row for session in every for row in rows[session]), strict=True)
        self.law, self.item, ratio = (np.array(column) for column in columns)
        self.log_ratio, self.pages = np.log(ratio), np.arange(0, len(ratio), 2)

    def ratios(self, law: int, first: int, second: int, repeats: bool) -> list[float]:
        """The policy's chances of two items by the chances of an even draw."""
        chances = self.laws[law]
        return [chances[first] * 3, chances[second] * 3 if repeats else chances[second] / (1 - chances[first]) * 2]


@settings(max_examples=20)
@given(seed=SEEDS, weights=st.sampled_from(PAGE_WEIGHTS))
def test_sessions_of_pages_have_the_policys_mean_exactly_if_the_log_contains_all_that_can_happen(seed, weights):
    log = Sessions(seed, only_last=weights == "iips", repeats=weights == "iips")
    rho = ends(page_request_weights(log.log_ratio, log.first, log.pages, weights), log.first)[:, None]
    user = np.zeros(len(log.first), int)
    value = user_values(user, log.level, normalised_weights(user, rho, cap=None))[0, 0]
    assert value == pytest.approx(log.truth)


@settings(max_examples=20)
@given(seed=SEEDS, wrong=st.sampled_from([0.0, 3.0]))
def test_doubly_robust_is_exact_on_pages_for_any_q(seed, wrong):
    """Without a future (gamma 0). The Q of a page is the mean of its items'; another session ends the history."""
    log = Sessions(seed, only_last=False, repeats=True)
    q = wrong * np.random.default_rng(seed).normal(size=(4, 3))
    law, item = np.append(log.law, [3, 3]), np.append(log.item, [0, 0])
    first, level = np.append(log.first, len(log.law)), np.append(log.level, 0.0)
    nothing, page = np.zeros((len(law), 1), np.float32), np.repeat(np.arange(len(law) // 2), 2)
    data = made_histories(nothing, nothing, first, np.zeros(len(first), int), level, item, step=page)
    known = steps(data, data.depth_level)
    value = (log.laws * q).sum(axis=1)[law]
    residual = residuals(known, q[law, item][known.row], value, gamma=0.0) / 2
    weights = np.exp(page_request_weights(log.log_ratio, log.first, log.pages, "sips"))
    estimate = user_means(known, value) + corrections(known, residual, weights)
    assert estimate[0] == pytest.approx(log.truth)


def test_a_page_counts_once_in_the_mean_weight_of_a_session():
    log_weights, first, depth = np.arange(7.0), np.array([0, 5]), np.array([2, 1])
    assert session_log_weights(log_weights, first, "geometric", depth).tolist() == [(0 + 1 + 2 + 3 + 4) / 2, 5 + 6]
    assert session_log_weights(log_weights, first, "product", depth).tolist() == [10, 11]


def test_pages_served_by_the_policy_itself_have_weights_of_one(dataset: PreparedDataset, clone: BehaviorClone) -> None:
    """The chances of a policy are those given the items before on the page, like its propensities."""
    serving = ServingSettings(rule="sample", temperature=1.0, variety=0.0, rest_days=0)
    items = dataset.items()
    policy = linear_policy(dataset, np.zeros((2, dataset.state.width)), np.zeros(2), serving=serving, deviation=0.6)
    rng = np.random.default_rng(4)
    state = rng.normal(size=(200, dataset.state.width)).astype(np.float32)
    drawn = policy.draw(state, 5, None, 7)
    page = np.repeat(np.arange(200), 5)
    row, known = drawn.rows.ravel(), drawn.propensities.ravel()
    first = np.arange(0, 1000, 20)
    data = made_histories(state[page], items.embeddings[row], first, first // 100, np.zeros(50), row, known, page)
    np.testing.assert_allclose(log_chances(policy, data, len(items), 0.0), np.log(known), rtol=1e-4, atol=1e-5)
    request = EvaluationRequest(dataset, {"own": policy}, ["frequency"], clone)
    weighed = weigh("own", request, Logged(data, np.log(known)))
    assert weighed.ess == pytest.approx(dict.fromkeys(ITEM_WEIGHTS, 1.0))
    assert weighed.pages == pytest.approx(dict.fromkeys(PAGE_WEIGHTS, 200))


@pytest.mark.parametrize("penalties", [{"variety": 0.0}, {"variety": 2.0, "repetition": 1.0}])
def test_pins_have_weights_of_one_and_no_part_in_the_draw_of_their_page(
    dataset: PreparedDataset, penalties: dict[str, float]
) -> None:
    """A server draws four items without the page's pin, and then places the pin."""
    serving = ServingSettings(rule="sample", temperature=0.5, rest_days=0, **penalties)
    items, width, rng = dataset.items(), dataset.state.width, np.random.default_rng(5)
    items = replace(items, kind_codes=rng.integers(0, 4, (len(items), 1)))
    critic = Critic([QFunction(mlp(width + 2, [8], 1).requires_grad_(False), (), 2)])
    policy = linear_policy(dataset, np.zeros((2, width)), np.zeros(2), serving=serving, critic=critic, items=items)
    state, users = rng.normal(size=(60, width)).astype(np.float32), np.arange(60)
    pinned, place = rng.integers(0, len(items), 60), rng.integers(0, 5, 60)
    drawn = policy.draw(state, 4, ExcludedItems(60, users, pinned), 7, np.full((60, MEMORY, 1), -1, np.int32))
    row, known = np.empty((60, 5), int), np.ones((60, 5))
    pins = np.arange(5) == place[:, None]
    row[pins], row[~pins], known[~pins] = pinned, drawn.rows.ravel(), drawn.propensities.ravel()
    row, known, pins, page = row.ravel(), known.ravel(), pins.ravel(), users.repeat(5)
    logged = made_histories(
        state[page], items.embeddings[row], np.arange(0, 300, 5), users, np.zeros(60), row, known, page
    )
    data = replace(logged, pins=pins)
    np.testing.assert_allclose(log_chances(policy, data, len(items), 0.0), np.log(known), rtol=1e-3, atol=1e-4)
    as_choices = log_chances(policy, logged, len(items), 0.0)
    assert (as_choices[pins] < -1).all()
    assert not np.allclose(as_choices[~pins], np.log(known[~pins]), rtol=1e-3, atol=1e-4)


def test_an_evaluation_of_pages(tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users return sooner after items with a larger first coordinate, which the policy shows more often."""
    monkeypatch.setattr(importance_weights, "ENOUGH", 10)  # of 340 sessions
    dataset = write_dataset(tmp_path / "pages", users=60, size=2)
    serving = ServingSettings(rule="sample", temperature=1.0, variety=0.0)
    policy = linear_policy(
        dataset, np.zeros((2, dataset.state.width)), np.array([0.15, 0.0]), serving=serving, deviation=0.6
    )
    about = EvaluateSettings(estimators=("ncis", *ITEM_WEIGHTS))
    evaluation = evaluate(EvaluationRequest(dataset, {"own": policy}, ["frequency"], fit_clone(dataset, 0), about))
    gains = {}
    for name in about.estimators:
        records = {record.subject: record for record in evaluation.select("frequency", name)}
        assert {"own", "random items", "length only:own"} <= set(records)
        assert records["own"].ci_low <= records["own"].value <= records["own"].ci_high
        assert records["own"].users == records["random items"].users
        gains[name] = records["own"].gain
    assert min(gains.values()) > 0.05
    assert gains["sips"] == pytest.approx(gains["rips"])  # sessions end with the last item of a page
    assert len({round(gains[name], 9) for name in gains}) == 4
