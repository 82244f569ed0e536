"""Estimates for pages against sums over all pages that can be shown."""

from itertools import permutations, product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.evaluation.estimators.pages import PAGE_WEIGHTS, cascade_dr, page_log_weights, page_values

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
def test_weights_of_one_item_per_page_are_its_ratio_to_the_last_digit(seed):
    log_ratio = np.random.default_rng(seed).normal(size=20) * 10
    for weights in PAGE_WEIGHTS:
        assert np.array_equal(page_log_weights(log_ratio, np.arange(20), weights), log_ratio)
