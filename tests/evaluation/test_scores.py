"""Bounds of records by hand: users drawn again, networks that scatter, an error that is a share of a gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.evaluation.results.names import Subject
from prefrec_ray.evaluation.results.records import Evaluation, Support
from prefrec_ray.evaluation.results.scores import Scores
from prefrec_ray.evaluation.results.verdict import verdicts

SEED, USERS, SHARE = 3, 30, 0.2
#: Student's t of two degrees of freedom at 97.5 %.
T = 4.30265273
SUBJECTS = [Subject("a", "m", "policy"), Subject("b", "m", "policy"), Subject("random items", "-", "placebo")]


def scores(networks: bool, relative_error: float) -> Scores:
    """Three subjects with `b` as the best policy, and three networks."""
    rng = np.random.default_rng(0)
    values, logging = rng.normal([2.0, 3.0, 1.0], 0.5, (USERS, 3)), rng.normal(1.5, 0.5, USERS)
    scatter = rng.normal(0, 0.1, (3, 4))
    by_network = scatter - scatter.mean(axis=0) + [*values.mean(axis=0), logging.mean()]
    about = {"users": USERS, "sessions": 90, "users_left_out": 0}
    nets = (by_network[:, :3], by_network[:, 3:]) if networks else None
    return Scores("depth", "fqe", SUBJECTS, values, logging, None, about, {}, nets, relative_error=relative_error)


def bounds(value: np.ndarray, by_network: np.ndarray | None, error: float) -> tuple[float, float]:
    """Return the interval of the mean of `value` [U]: half-widths add as squares."""
    rng = np.random.default_rng(SEED)
    low, high = np.quantile([value[rng.integers(0, USERS, USERS)].mean() for _ in range(1000)], [0.025, 0.975])
    half = 0.0 if by_network is None else T * by_network.std(ddof=1) / np.sqrt(3)
    below, above = (np.sqrt(bound**2 + half**2 + error**2) for bound in (value.mean() - low, high - value.mean()))
    return value.mean() - below, value.mean() + above


@pytest.mark.parametrize("networks", [True, False])
@pytest.mark.parametrize("relative_error", [SHARE, 0.0])
def test_bounds_hold_users_networks_and_a_share_of_the_gain(networks: bool, relative_error: float) -> None:
    known = scores(networks, relative_error)
    nets, logging = known.networks or (None, None)
    for i, record in enumerate(known.records(SEED)):
        value = known.values[:, i]
        gain, lead = value - known.logging, known.values[:, 1] - value
        error = relative_error * abs(gain.mean())  # of the level too: it is the logged one and a gain
        by_network = None if nets is None else nets[:, i]
        assert (record.ci_low, record.ci_high) == pytest.approx(bounds(value, by_network, error))
        gain_by_network = None if nets is None or logging is None else nets[:, i] - logging[:, 0]
        assert (record.gain_ci_low, record.gain_ci_high) == pytest.approx(bounds(gain, gain_by_network, error))
        if record.subject != "a":
            assert (record.best, record.behind_ci_low, record.behind_ci_high) == (None, None, None)
            continue
        lead_by_network = None if nets is None else nets[:, 1] - nets[:, i]
        lead_error = relative_error * abs(lead.mean())
        assert abs(lead.mean()) > 1.5 * abs(gain.mean())  # one error is not the other
        assert record.best == "b"
        behind = (record.behind_ci_low, record.behind_ci_high)
        assert behind == pytest.approx(bounds(lead, lead_by_network, lead_error))


@given(
    users=st.integers(1, 6),
    networks=st.integers(1, 3),
    spread=st.floats(0, 8),
    relative_error=st.sampled_from([0.0, SHARE]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_no_level_and_no_bound_is_outside_its_range(
    users: int, networks: int, spread: float, relative_error: float, seed: int
) -> None:
    """A level is within 0 and 5, a gain or a lead within -5 and 5, also if networks disagree or extrapolate."""
    rng = np.random.default_rng(seed)
    nets = rng.normal(2.5, spread, (networks, 3)), rng.normal(2.5, spread, (networks, 1))
    values, logging = np.tile(nets[0].mean(axis=0), (users, 1)), np.full(users, nets[1].mean())
    about = {"users": users, "sessions": 4, "users_left_out": 0}
    one = Scores("depth", "fqe", SUBJECTS, values, logging, None, about, {}, nets, relative_error=relative_error)
    for record in one.records(SEED):
        assert 0 <= record.ci_low <= record.value <= record.ci_high <= 5
        assert 0 <= record.behaviour <= 5
        assert -5 <= record.gain_interval[0] <= record.gain_interval[1] <= 5
        if record.best is not None:
            assert -5 <= record.behind_ci_low <= record.behind_ci_high <= 5
        if not 0 < record.ci_low <= record.ci_high < 5 and not relative_error:
            assert record.reaches_end


@pytest.mark.parametrize("relative_error", [SHARE, 0.0])
@pytest.mark.parametrize(("level", "logged"), [(3.0, 1.0), (1.0, 3.0), (5.0, 0.5)])
def test_one_user_says_nothing_of_others(relative_error: float, level: float, logged: float) -> None:
    """Drawn again it is always the same one, and its interval was a point: a candidate, or nothing to ship."""
    about = {"users": 1, "sessions": 4, "users_left_out": 0}
    values, nets = np.array([[level, 0.5, 2.0]]), (np.tile([level, 0.5, 2.0], (3, 1)), np.full((3, 1), logged))
    one = Scores("depth", "model", SUBJECTS, values, np.array([logged]), None, about, {}, nets)
    records = replace(one, settings={"relative_error": relative_error}, relative_error=relative_error).records(SEED)
    assert (records[0].ci_low, records[0].ci_high) == (0, 5)
    assert records[0].reaches_end
    support = {"a": Support(states=1.0, threshold=0.8, supported=True)}
    said = verdicts(Evaluation(records=tuple(records), support=support))["a"]
    assert said.verdict == "inconclusive"
    assert "not converged" in said.reasons[0]
