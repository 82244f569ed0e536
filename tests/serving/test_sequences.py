"""Confidence sequences: equal to a plain computation, valid at all looks, and narrow enough to be of use."""

import math

import numpy as np
import pytest

from prefrec_ray.serving.experiment.sequences import effect_interval, largest_mean_interval, mean_interval

BETS = (0.7, 0.35, 0.175, 0.0875, 0.04375, 0.021875)


def plain_capital(values: list[float], least: list[float], scale: list[float], mean: float) -> float:
    """Capital of bets that the mean is larger than `mean`, user by user."""
    capitals = [1.0 for _ in BETS]
    for value, lowest, unit in zip(values, least, scale, strict=True):
        for number, bet in enumerate(BETS):
            capitals[number] *= 1 + min(0.9 / (mean - lowest), bet * unit) * (value - mean)
    return sum(capitals) / len(BETS)


def plain_effects(
    values: np.ndarray, treated: np.ndarray, chance: float, weight: float
) -> tuple[list[float], list[float], list[float], list[float]]:
    """The effect of each user, its least and largest possible values, and the scale of the bets."""
    effects, least, largest, scale = [], [], [], []
    of_canary: list[float] = []
    of_main: list[float] = []
    squares = 0.25
    for number, (value, is_treated) in enumerate(zip(values.tolist(), treated.tolist(), strict=True)):
        main = (0.5 + sum(of_main)) / (1 + len(of_main))
        canary = (10 * main + sum(of_canary)) / (10 + len(of_canary))

        def effect(outcome: float, in_canary: bool, main: float = main, canary: float = canary) -> float:
            one = canary + (outcome - canary) / chance * in_canary
            return one - weight * (main + (outcome - main) / (1 - chance) * (not in_canary))

        possible = [effect(outcome, arm) for outcome in (0.0, 1.0) for arm in (False, True)]
        effects.append(effect(value, is_treated))
        least.append(min(possible))
        largest.append(max(possible))
        scale.append(chance / math.sqrt(squares / (1 + number)))
        squares += (value - (canary if is_treated else main)) ** 2
        (of_canary if is_treated else of_main).append(value)
    return effects, least, largest, scale


@pytest.mark.parametrize(("chance", "weight"), [(0.05, 1.0), (0.5, 1.0), (0.3, 0.95), (0.2, 1.1)])
def test_an_effects_interval_ends_where_the_plain_capital_reaches_its_limit(chance: float, weight: float) -> None:
    rng = np.random.default_rng(0)
    treated = rng.random(500) < chance
    values = np.clip(rng.beta(2, 3, 500) + 0.1 * treated, 0, 1)
    low, high = effect_interval(values, treated, np.full(500, chance), 0.1, weight)
    effects, least, largest, scale = plain_effects(values, treated, chance, weight)
    assert plain_capital(effects, least, scale, low) == pytest.approx(20, rel=1e-3)
    against, opposite = [-one for one in effects], [-one for one in largest]
    assert plain_capital(against, opposite, scale, -high) == pytest.approx(20, rel=1e-3)
    assert low < values[treated].mean() - weight * values[~treated].mean() < high


def test_a_means_interval_ends_where_the_plain_capital_reaches_its_limit() -> None:
    values = np.random.default_rng(1).beta(1, 4, 300)
    low, high = mean_interval(values, 0.1)
    before = [(0.5 + values[:n].sum()) / (1 + n) for n in range(300)]
    squares = np.cumsum([0.25, *(values - before)[:-1] ** 2])
    scale = (1 / np.sqrt(squares / np.arange(1, 301))).tolist()
    assert plain_capital(values.tolist(), [0.0] * 300, scale, low) == pytest.approx(20, rel=1e-3)
    assert plain_capital((1 - values).tolist(), [0.0] * 300, scale, 1 - high) == pytest.approx(20, rel=1e-3)


def test_without_users_intervals_are_the_whole_range() -> None:
    none = np.zeros(0)
    assert mean_interval(none, 0.05) == (0.0, 1.0)
    assert effect_interval(none, none.astype(bool), none, 0.05, 0.9) == (-0.9, 1.0)
    assert largest_mean_interval(none.astype(int), none.astype(int), none, 0, 0.05) == (0.0, 1.0)
    low, high = effect_interval(np.array([0.7]), np.array([True]), np.array([0.05]), 0.05)
    assert (low, high) == (-1.0, 1.0)


def test_intervals_of_equal_arms_contain_0_at_all_looks_though_users_change() -> None:
    """Early users are active, late ones are not, and the share grows meanwhile. All 30 looks of 50 trials count."""
    rng, missed = np.random.default_rng(2), 0
    chance = np.where(np.arange(1_500) < 700, 0.05, 0.25)
    for _ in range(50):
        values = (rng.random(1_500) < np.linspace(0.9, 0.1, 1_500)).astype(np.float64)
        treated = rng.random(1_500) < chance
        looks = [effect_interval(values[:n], treated[:n], chance[:n], 0.2) for n in range(50, 1_501, 50)]
        missed += any(low > 0 or high < 0 for low, high in looks)
    assert missed <= 10


def test_a_means_interval_contains_the_mean_at_all_looks() -> None:
    rng, missed = np.random.default_rng(3), 0
    for _ in range(100):
        values = (rng.random(800) < 0.1).astype(np.float64)
        looks = [mean_interval(values[:n], 0.2) for n in range(40, 801, 40)]
        missed += any(not low <= 0.1 <= high for low, high in looks)
    assert missed <= 20


@pytest.mark.parametrize(("users", "widest"), [(50, 1.75), (400, 1.8), (4_000, 1.8)])
def test_an_effects_interval_is_less_than_twice_as_wide_as_for_one_look(users: int, widest: float) -> None:
    """The limits are relative to 1.96 standard errors; alpha / 2 per arm gave 2.1."""
    rng = np.random.default_rng(4)
    values = rng.beta(2.625, 2.625, 20 * users)  # standard deviation .2
    treated = np.arange(20 * users) % 20 == 7
    low, high = effect_interval(values, treated, np.full(20 * users, 0.05), 0.05)
    one_look = 1.96 * 0.2 * math.sqrt(1 / users + 1 / (19 * users))
    assert (high - low) / 2 < widest * one_look


def test_the_largest_mean_is_between_the_bounds() -> None:
    """Five values with shares of .3 or less: bounds hold in most trials, and come close."""
    rng, missed = np.random.default_rng(5), 0
    chances = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    for _ in range(100):
        counts = rng.multinomial(4, chances, 600) / 4
        user, code = np.nonzero(counts)
        low, high = largest_mean_interval(user, code, counts[user, code], 600, 0.2)
        missed += not low <= 0.3 <= high
        assert 0.2 < low < high < 0.4
    assert missed <= 20


def test_outcomes_before_the_experiment_narrow_an_effects_interval() -> None:
    """Equal up to noise of .1; the interval still contains 0 if they predict nothing, or the opposite later."""
    rng = np.random.default_rng(6)
    before = rng.beta(2, 2, 4_000)
    values = np.clip(0.7 * before + 0.15 + rng.normal(0, 0.1, 4_000), 0, 1)
    treated = rng.random(4_000) < 0.05
    chance = np.full(4_000, 0.05)
    low, high = effect_interval(values, treated, chance, 0.05)
    adjusted_low, adjusted_high = effect_interval(values, treated, chance, 0.05, before=before)
    assert low < adjusted_low < 0 < adjusted_high < high
    assert adjusted_high - adjusted_low < 0.65 * (high - low)
    unknown = np.where(rng.random(4_000) < 0.5, np.nan, before)
    half_low, half_high = effect_interval(values, treated, chance, 0.05, before=unknown)
    assert adjusted_high - adjusted_low < half_high - half_low < high - low
    assert effect_interval(values, treated, chance, 0.05, before=np.full(4_000, np.nan)) == (low, high)
    opposite = np.where(np.arange(4_000) < 2_000, before, 1 - before)
    low, high = effect_interval(values, treated, chance, 0.05, before=opposite)
    assert low < 0 < high


def test_a_bet_depends_on_earlier_users_only() -> None:
    """With outcomes before, the plain least squares line of earlier users predicts each user."""
    rng = np.random.default_rng(7)
    before, values, treated = rng.random(80), rng.random(80), rng.random(80) < 0.4
    before[::9] = np.nan
    low, _ = effect_interval(values, treated, np.full(80, 0.4), 0.4, before=before)
    effects, least, scale, errors = [], [], [], [0.25]
    for n in range(80):
        earlier = slice(0, n)
        known = np.isfinite(before[earlier])
        shift = 0.0
        if known.sum() >= 30 and np.isfinite(before[n]):
            slope, _ = np.polyfit(before[earlier][known], values[earlier][known], 1)
            shift = slope * (before[n] - before[earlier][known].mean())
        mains, canaries = values[earlier][~treated[earlier]], values[earlier][treated[earlier]]
        main = (0.5 + mains.sum()) / (1 + len(mains))
        canary = (10 * main + canaries.sum()) / (10 + len(canaries))
        main, canary = np.clip([main + shift, canary + shift], 0, 1)

        def effect(outcome: float, in_canary: bool, main: float = main, canary: float = canary) -> float:
            one = canary + (outcome - canary) / 0.4 * in_canary
            return one - main - (outcome - main) / 0.6 * (not in_canary)

        effects.append(effect(values[n], bool(treated[n])))
        least.append(min(effect(outcome, arm) for outcome in (0.0, 1.0) for arm in (False, True)))
        scale.append(0.4 / math.sqrt(sum(errors) / (1 + n)))
        errors.append((values[n] - (canary if treated[n] else main)) ** 2)
    assert plain_capital(effects, least, scale, low) == pytest.approx(5, rel=1e-3)


def test_the_upper_bound_of_the_largest_mean_uses_half_of_alpha() -> None:
    """50 users with a share of .2 each: the capital of ten bets against the bound reaches 2 / alpha."""
    users, share, alpha = 50, 0.2, 0.1
    everyone = np.arange(users)
    _, high = largest_mean_interval(everyone, np.zeros(users, int), np.full(users, share), users, alpha)
    capital = sum((1 + 0.9 * 0.5**k / (1 - high) * (high - share)) ** users for k in range(10)) / 10
    assert capital == pytest.approx(2 / alpha, rel=1e-2)


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_a_constant_effect_is_covered_at_every_look_while_outcomes_change(effect: float) -> None:
    """Outcomes rise from .1 to .8 and their deviation changes; 300 experiments with 20 looks."""
    rng, missed, trials = np.random.default_rng(2), 0, 300
    for _ in range(trials):
        users = 1_000
        treated = rng.random(users) < 0.2
        level = np.linspace(0.1, 0.8, users)
        values = np.clip(level + rng.choice([-1, 1], users) * np.linspace(0.02, 0.1, users) + effect * treated, 0, 1)
        for look in range(50, users + 1, 50):
            low, high = effect_interval(values[:look], treated[:look], np.full(look, 0.2), 0.05)
            if not low <= effect <= high:
                missed += 1
                break
    assert missed <= 0.05 * trials
