"""Fits of models of users to written laws, and their likelihood against closed forms."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from logged_users import ITEMS, NORMALISER, STATE, histories, inputs_of
from scipy import stats
from scipy.optimize import minimize

from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.users import fit
from prefrec_ray.users.fit import KINDS, ModelKind, away_loss, fit_member, residual_quantiles
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.member import Member, Outcomes
from prefrec_ray.users.roll_out import Platform, roll_out

NAMES = [kind.name for kind in KINDS]
#: A model with few parameters, for laws that are linear.
LINEAR = ModelKind("linear", lambda inputs: np.zeros(inputs.width, dtype=bool), ())


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws are simple: batches of a quarter of the size find them."""
    monkeypatch.setattr(fit, "BATCH", 256)


@pytest.fixture
def large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a linear model has one minimum: ten times as large steps find it with a fifth of the updates."""
    monkeypatch.setattr(fit, "LEARNING_RATE", 2e-2)
    monkeypatch.setattr(fit, "UPDATES", 600)


def fitted(data: Histories, kind: str = "counts", seed: int = 0) -> Member:
    inputs, logged = inputs_of(data)
    return fit_member(
        LINEAR if kind == "linear" else KINDS[NAMES.index(kind)], inputs, data, inputs.scaled(logged), seed
    )


def drawn(member: Member, data: Histories) -> Outcomes:
    """Return outcomes of all impressions of `data`."""
    made = member.inputs.scaled(member.inputs.logged(data))
    own = member.intercepts(data, made)[data.user]
    return member.step(made, own, np.random.default_rng(1), None, *unused(len(made)))


def unused(impressions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask of examined impressions, all of them, and features for a found error, of which there is none."""
    return np.ones(impressions, bool), np.empty((impressions, 0))


@pytest.mark.parametrize("kind", NAMES)
def test_a_known_law_is_found_again(kind: str) -> None:
    fresh = histories(users=200, seed=7)
    outcomes = drawn(fitted(histories(users=200), kind), fresh)
    liked, good = outcomes.feedback[:, 0] == 1, fresh.action[:, 0] > 0.3
    assert liked[good].mean() == pytest.approx(0.8, abs=0.07)
    assert liked[fresh.action[:, 0] < -0.3].mean() == pytest.approx(0.2, abs=0.07)
    assert outcomes.ends[liked].mean() == pytest.approx(0.1, abs=0.06)
    assert outcomes.ends[~liked].mean() == pytest.approx(0.5, abs=0.06)
    true_ends, true_liked = fresh.ends, fresh.feedback[:, 0] == 1
    for own, true in ((liked, true_liked), (~liked, ~true_liked)):
        ratio = np.log(outcomes.wait_ms / fresh.mean_revisit_ms[fresh.user])[outcomes.ends & own]
        logged = np.log(fresh.wait_ms / fresh.mean_revisit_ms[fresh.user])[true_ends & true]
        assert ratio.mean() == pytest.approx(logged.mean(), abs=0.12)
        assert ratio.std() == pytest.approx(logged.std(), rel=0.75)
    assert outcomes.wait_ms[~outcomes.ends].max() <= 3000.0


def test_a_threshold_of_exposure_is_seen_by_models_with_counts() -> None:
    """More than 4 of a kind among 30 impressions make the next time away longer."""
    data = histories(users=200, cost_of_repeats=1.5)

    def effect(wait_ms: np.ndarray, ends: np.ndarray) -> float:
        away, tired = np.log(wait_ms / data.mean_revisit_ms[data.user]), data.exposure[:, 1] > 4
        return float(away[ends & tired].mean() - away[ends & ~tired].mean())

    outcomes = {kind: drawn(fitted(data, kind), data) for kind in ("means", "counts")}
    effects = {kind: effect(own.wait_ms, own.ends) for kind, own in outcomes.items()}
    logged = effect(data.wait_ms, data.ends)
    assert effects["counts"] > 0.4 * logged > 0.4
    assert effects["means"] < 0.5 * effects["counts"]


def test_equal_seeds_fit_equal_models_and_others_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "UPDATES", 60)
    data = histories(users=40)
    one, same, other = (fitted(data, seed=seed).leaves.layers[0][0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("kind", NAMES)
def test_earlier_sessions_do_not_change_an_outcome(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intercepts already contain them; in a roll-out they would reinforce themselves."""
    monkeypatch.setattr(fit, "UPDATES", 60)
    data = histories(users=40)
    member = fitted(data, kind)
    before = drawn(member, data)
    for group, matters in (("sessions", False), ("counts", False), ("recency", False), ("time", True)):
        state = data.state.copy()
        state[:, STATE.groups[group]] += 5.0
        changed = drawn(member, replace(data, state=state))
        assert (not np.array_equal(changed.wait_ms, before.wait_ms)) == matters, group


def test_the_likelihood_of_times_away_is_the_one_of_scipy() -> None:
    rng = np.random.default_rng(0)
    away, mean, censored = rng.normal(size=50), rng.normal(size=50), rng.random(50) < 0.4
    loss = away_loss(torch.tensor(mean), torch.tensor(away), torch.tensor(censored), 0.7).numpy()
    known = stats.norm(mean, 0.7)
    np.testing.assert_allclose(loss, -np.where(censored, known.logsf(away), known.logpdf(away)))


def test_censored_times_away_are_used_as_bounds() -> None:
    """The mean of times of which half are cut at a random time: the fit finds it, unlike a mean of the known times."""
    rng = np.random.default_rng(1)
    true, cut = rng.normal(2.0, 1.0, 4000), rng.normal(2.0, 1.0, 4000)
    away, censored = np.minimum(true, cut), cut < true

    def loss(mean: np.ndarray) -> float:
        given = torch.full((4000,), float(mean[0]), dtype=torch.float64)
        return float(away_loss(given, torch.tensor(away), torch.tensor(censored), 1.0).mean())

    assert minimize(loss, np.zeros(1)).x[0] == pytest.approx(2.0, abs=0.06)
    assert away[~censored].mean() < 1.6
    quantiles = residual_quantiles(away, censored)
    np.testing.assert_allclose(
        np.quantile(quantiles, [0.25, 0.5, 0.75]), stats.norm(2, 1).ppf([0.25, 0.5, 0.75]), atol=0.1
    )
    np.testing.assert_allclose(
        np.quantile(residual_quantiles(true, np.zeros(4000, bool)), [0.1, 0.9]),
        np.quantile(true, [0.1, 0.9]),
        atol=0.02,
    )


@pytest.mark.parametrize("cut", [True, False])
def test_last_times_away_are_bounded_by_the_end_of_a_log_that_was_cut(cut: bool) -> None:
    """Histories that end at one time were cut there. Histories of equal length end one by one: nothing is known."""
    data = histories(users=100)
    last = np.append(data.starts[1:], len(data.row)) - 1
    away = data.away_ms[last]
    if cut:
        shift = data.timestamp[last].max() - data.timestamp[last] - np.int64(data.mean_revisit_ms * 0.5)
        at_end = replace(data, timestamp=data.timestamp + np.repeat(shift, data.lengths))
        np.testing.assert_allclose(at_end.away_ms[last], at_end.timestamp.max() - at_end.timestamp[last])
        assert (at_end.away_ms[last] > 0).mean() > 0.9
    else:
        assert (away == 0).all()
        np.testing.assert_array_equal(np.delete(data.away_ms, last), np.delete(data.wait_ms, last))


def test_items_of_a_page_are_away_as_long_as_the_page() -> None:
    """Each impression becomes a page of two items."""
    single = histories(users=50, requests=20)
    twice = np.repeat(np.arange(len(single.row)), 2)
    columns = ("timestamp", "session", "row", "state", "action", "feedback", "exposure", "propensity", "step")
    double = replace(single, starts=2 * single.starts, **{name: getattr(single, name)[twice] for name in columns})
    assert single.away_ms.any()
    np.testing.assert_array_equal(double.away_ms, single.away_ms[twice])
    np.testing.assert_array_equal(double.ends, single.ends[twice])


def test_a_fit_stops_when_held_out_users_do_not_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out loss is best after the third of all evaluations; the weights of that time are kept."""
    network, losses, weights = mlp(2, (), 1), iter([3.0, 2.0, 1.0, *np.arange(2.0, 99.0)]), []
    target = torch.ones(16, 1)

    def held_loss() -> float:
        weights.append(network.linear[0].weight.clone())
        return next(losses)

    fit._fit(
        network,
        lambda rows: (network(torch.ones(16, 2)) - target).square().mean(),
        held_loss,
        np.arange(16),
        np.random.default_rng(0),
    )
    assert len(weights) == 3 + fit.PATIENCE
    torch.testing.assert_close(network.linear[0].weight, weights[2])
    assert not torch.equal(weights[2], weights[-1])


def test_the_items_of_a_page_add_up(large_steps: None) -> None:
    """A session ends after a page by its mean a_0. Rows on their own would find a quarter of the effect."""
    data, pages, size = histories(users=300), 300 * 15, 4
    slope, rng = 6.0, np.random.default_rng(2)
    logit = slope * data.action[:, 0].reshape(pages, size).mean(axis=1)
    ends = (rng.random(pages) < 1 / (1 + np.exp(-logit))).reshape(300, 15)
    wait = np.where(ends, 8_000_000, 10_000)
    session, time = (np.cumsum(values, axis=1) - values for values in (ends, wait))
    data = replace(
        data,
        step=np.repeat(np.arange(pages), size),
        session=np.repeat(session.ravel(), size),
        timestamp=np.repeat(time.ravel(), size) + data.timestamp[0],
    )
    member = fitted(data, "linear")
    made, first = member.inputs.scaled(member.inputs.logged(data)), np.flatnonzero(data.opens)
    predicted = member.predict(data, made, first)[:, 0]
    assert np.polyfit(logit, predicted, 1)[0] == pytest.approx(1, abs=0.3)
    # The same position by position, as in a roll-out.
    own, before = np.zeros((pages, 2)), None
    for position in range(size):
        before = member.step(made[first + position], own, rng, before, *unused(pages))
    assert np.polyfit(logit, before.leaves[:, 0], 1)[0] == pytest.approx(1, abs=0.3)
    assert before.ends[logit > 1].mean() > 0.7 > 0.3 > before.ends[logit < -1].mean()


def gain_of_good_items(data: Histories, kind: str) -> float:
    """Return the estimated gain in frequency of items with a_0 > 0 over logged items."""
    platform = Platform(STATE, NORMALISER, ITEMS, data, np.arange(100), 0.5, 60)
    good, rng = np.flatnonzero(ITEMS.embeddings[:, 0] > 0), np.random.default_rng(0)
    servers: dict[str, Any] = {
        "good": lambda visit: rng.choice(good, len(visit.states)),
        "logged": lambda visit: data.row[data.starts[:100] + visit.step],
    }
    members = [fitted(data, kind)]
    levels = {name: roll_out(platform, members, server, 0).levels["frequency"] for name, server in servers.items()}
    return float(np.nanmean(levels["good"]) - np.nanmean(levels["logged"]))


def test_a_gain_is_found_and_a_model_of_shuffled_items_predicts_none() -> None:
    data = histories()
    assert gain_of_good_items(data, "linear") > 0.1
    row = np.random.default_rng(4).permutation(data.row)
    shuffled = replace(data, row=row, action=ITEMS.embeddings[row])
    assert abs(gain_of_good_items(shuffled, "linear")) < 0.05
