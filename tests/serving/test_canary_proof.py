"""Canaries in simulation: how often an equal one is decided falsely, and how soon an unequal one is seen.

A canary has four decisions, as for an objective and three guard-rails, which hold together at 5 %. Users arrive in
random order, 5 % of them in the canary. The laws of outcomes:

- levels: means of levels from 0 to 5 of a few sessions, standard deviation about 1
- rare feedback: 1 % of users have it
- skewed depth: lognormal, sigma 1.5, without a known range
- depth and its value before, correlated by .8
"""

from collections.abc import Callable

import numpy as np
import pytest

from prefrec_ray.serving.experiment.estimates import Sample
from prefrec_ray.serving.experiment.history import Participants
from prefrec_ray.serving.experiment.outcomes import UserOutcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHARE, ALPHA, DECISIONS = 0.05, 0.05, 4


def arrived(users: int, rng: np.random.Generator) -> Participants:
    arm = (rng.random(users) < SHARE).astype(np.int64)
    chance = np.broadcast_to([1 - SHARE, SHARE], (users, 2))
    number = np.arange(users)
    return Participants(number, np.zeros_like(number), number, number, arm, chance, 0)


def levels(users: int, rng: np.random.Generator) -> UserOutcome:
    each = np.clip(np.floor(1 / rng.exponential(0.8, (users, 3))), 0, 5)
    return UserOutcome(each.mean(axis=1), (0.0, 5.0))


def rare(users: int, rng: np.random.Generator) -> UserOutcome:
    return UserOutcome((rng.random(users) < 0.01).astype(np.float64), (0.0, 1.0))


def skewed(users: int, rng: np.random.Generator) -> UserOutcome:
    return UserOutcome(rng.lognormal(0.0, 1.5, users))


def habitual(users: int, rng: np.random.Generator) -> UserOutcome:
    habit = rng.normal(0.0, 0.8, users)
    now, before = (np.exp(habit + rng.normal(0.0, 0.4, users)) for _ in range(2))
    return UserOutcome(now, None, before)


LAWS: dict[str, Callable[[int, np.random.Generator], UserOutcome]] = {
    "levels": levels,
    "rare feedback": rare,
    "skewed depth": skewed,
    "habitual depth": habitual,
}


def test_at_most_5_percent_of_equal_canaries_are_decided_at_any_of_30_looks() -> None:
    rng, canaries, users = np.random.default_rng(0), 500, 2_000
    looks = np.unique(np.geomspace(120, users, 30).astype(int)).tolist()
    assert len(looks) == 30
    alone, together = (np.zeros((canaries, len(LAWS)), bool) for _ in range(2))
    for trial in range(canaries):
        who = arrived(users, rng)
        for law, draw in enumerate(LAWS.values()):
            outcome = draw(users, rng)
            for look in looks:
                sample = Sample.of_canary(who, outcome, 1, look)
                if apart(*sample.against(1.0, ALPHA)):
                    alone[trial, law] = True
                    together[trial, law] |= apart(*sample.against(1.0, ALPHA / DECISIONS))  # a wider interval
    for name, decided in zip(LAWS, alone.mean(axis=0), strict=True):
        print(f"{name}: {decided:.1%} of {canaries} equal canaries decided at one of {len(looks)} looks")
        assert decided <= ALPHA
    print(f"any of {DECISIONS} decisions: {together.any(axis=1).mean():.1%}")
    assert together.any(axis=1).mean() <= ALPHA


def apart(low: float, high: float) -> bool:
    return low > 0 or high < 0


@pytest.mark.parametrize("effect", [0.5, -0.5])
def test_an_effect_of_half_a_level_is_seen_in_a_small_canary(effect: float) -> None:
    """Levels have a mean of 2.5 and a standard deviation of 1; the decision is one of one at 5 %, or one of four."""
    users, step = 10_000, 100
    for decisions in (1, DECISIONS):
        rng, needed = np.random.default_rng(1), []
        for _ in range(100):
            who = arrived(users, rng)
            values = 5 * rng.beta(2.625, 2.625, users)
            moved = np.clip(values + effect * (who.arm == 1), 0, 5)
            for look in range(step, users + 1, step):
                difference = Sample.of_canary(who, UserOutcome(moved, (0.0, 5.0)), 1, look).difference(
                    ALPHA / decisions
                )
                if difference.verdict != "not told apart":
                    break
            assert difference.verdict == ("more" if effect > 0 else "less")
            needed.append(int((who.arm[:look] == 1).sum()))
        half, most = np.quantile(needed, [0.5, 0.9])
        print(f"{effect:+} levels, {decisions} decisions: median {half:.0f} canary users, {most:.0f} in 90 % of trials")
        assert half < 120


def test_intervals_are_narrow_enough_for_small_canaries() -> None:
    """Print half the width, in parts of the range, of a difference with a standard deviation of .2."""
    rng = np.random.default_rng(2)
    for users in (50, 100, 400):
        halves = []
        for _ in range(20):
            who = arrived(20 * users, rng)
            outcome = UserOutcome(rng.beta(2.625, 2.625, 20 * users), (0.0, 1.0))
            estimate = Sample.of_canary(who, outcome, 1, 20 * users).difference(ALPHA)
            halves.append((estimate.high - estimate.low) / 2)
        one_look = 1.96 * 0.2 * np.sqrt(1 / users + 1 / (19 * users))
        print(f"{users} canary users: +- {np.mean(halves):.3f} of the range; a test with one look: {one_look:.3f}")
        assert np.mean(halves) < 1.8 * one_look
