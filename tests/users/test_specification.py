"""The specification test finds a law that a model cannot have, names it, and accepts a model that has the law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from logged_users import ITEMS, NORMALISER, STATE, histories, inputs_of, with_unexamined

from prefrec_ray.users import checks, fit
from prefrec_ray.users.checks import Specification, specification_test
from prefrec_ray.users.ensemble import Ensemble
from prefrec_ray.users.fit import KINDS, fit_member
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.log_server import server_of_log
from prefrec_ray.users.member import FoundError, Member, known_before
from prefrec_ray.users.roll_out import Platform, Traits, roll_out

REQUESTS = 80


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws are simple: batches of a quarter of the size find them."""
    monkeypatch.setattr(fit, "BATCH", 256)


def fit_and_test(
    cost_of_repeats: float, kind: str, shown: Callable[[Histories], Histories] = lambda data: data
) -> tuple[Specification, Platform, Member]:
    """Fit a model of this kind to some users, and test it on others, whose log is `shown`."""
    training, held = (histories(200, REQUESTS, seed, cost_of_repeats) for seed in (0, 1))
    held = shown(held)
    inputs, logged = inputs_of(training)
    (chosen,) = (one for one in KINDS if one.name == kind)
    member = fit_member(chosen, inputs, training, inputs.scaled(logged), seed=3)
    requests = len(held.row) // len(held.starts)
    platform = Platform(STATE, NORMALISER, ITEMS, held, np.arange(len(held.starts)), 0.5, requests)
    return specification_test(platform, member, seed=4), platform, member


def test_a_law_without_an_effect_of_repeats_is_accepted() -> None:
    result, *_ = fit_and_test(0.0, "means")
    assert not result.rejected
    assert result.feature is None
    assert result.error is None
    assert len(result.controls) == checks.SIMULATIONS


def test_users_with_one_impression_have_no_intercepts_and_test_nothing() -> None:
    data = histories(20, REQUESTS, 0)
    inputs, logged = inputs_of(data)
    member = fit_member(KINDS[0], inputs, data, inputs.scaled(logged), seed=3)
    once = data._of(np.arange(20), data.starts, np.arange(20))
    platform = Platform(STATE, NORMALISER, ITEMS, once, np.arange(5), 0.5, REQUESTS)
    traits = Traits.find(platform, [member])
    assert (traits.intercepts == 0).all()
    assert not specification_test(platform, member, seed=4).rejected


def test_unexamined_items_hide_no_error() -> None:
    """Only examined items count, in the features of the log as in simulations."""
    result, *_ = fit_and_test(3.0, "means", with_unexamined)
    assert result.rejected
    assert result.feature is not None
    assert result.feature.startswith(("impressions of the item's kind", "impressions since the item's kind"))


def test_a_model_without_exposure_counts_is_rejected_if_repeats_matter() -> None:
    """At an end, log(time away) is longer by 3 if more than 4 of the last 30 impressions were of the item's kind."""
    result, platform, member = fit_and_test(3.0, "means")
    assert result.rejected
    assert result.feature is not None
    assert result.feature.startswith(("impressions of the item's kind", "impressions since the item's kind"))
    assert result.error is not None
    data = platform.data
    number = np.tile(np.arange(REQUESTS), len(data.starts))
    opened = data.first[np.cumsum(np.isin(np.arange(len(data.row)), data.first)) - 1] % REQUESTS
    known, often = known_before(data.exposure, number, data.timestamp, opened), data.exposure[:, 1] > 4

    def change(rows: np.ndarray) -> np.ndarray:
        """Return the mean change of the logit of an end and of log(time away) by the correction."""
        before = np.zeros((int(rows.sum()), 2))
        return result.error.corrected(before, before, known[rows], away_std=1.0).mean(axis=0)

    logit, away = change(often) - change(~often)
    assert away == pytest.approx(3.0, rel=0.25)
    assert abs(logit) < 0.1

    # A liked item at every impression drives users away: the model underestimates the loss, its correction does not.
    liked = np.flatnonzero(ITEMS.embeddings[:, 0] > 0)[0]
    users = replace(platform, users=np.arange(60), rest_ms=0.0)

    def gain(model: Member) -> float:
        repeated = roll_out(users, [model], lambda visit: np.full(len(visit.states), liked), seed=5)
        logged = roll_out(users, [model], server_of_log(users), seed=5)
        return float(np.nanmean(repeated.levels["frequency"]) - np.nanmean(logged.levels["frequency"]))

    assert gain(replace(member, error=result.error)) < gain(member) - 0.3 < 0


def test_a_corrected_chance_is_the_chance_with_the_error() -> None:
    """Also with the user's intercept. No chance leaves 0 to 1, and an empty correction changes nothing."""
    constant = [SimpleNamespace(predict=lambda known: np.array([0.2, 0.2, -0.5]))]
    leaves, own, known = np.array([[0.4, 1.0]] * 3), np.array([[-0.9, 0.5]] * 3), np.zeros((3, 4))
    made = FoundError(constant, constant).corrected(leaves, own, known, away_std=2.0)
    assert 1 / (1 + np.exp(0.9 - made[:, 0])) == pytest.approx([1 / (1 + np.exp(0.5)) + 0.2] * 2 + [0.001])
    assert made[:, 1] == pytest.approx([1.1, 1.1, 0.75])
    assert FoundError([], []).corrected(leaves, own, known, away_std=2.0) == pytest.approx(leaves)


def test_models_are_corrected_if_every_model_is_rejected() -> None:
    errors = [FoundError([], []), FoundError([], [])]
    rejected = [Specification(0.3, (0.1, 0.2), "hour of the day", error) for error in errors]
    passed = Specification(0.15, (0.1, 0.2), None)
    pasts: Any = None
    assert Ensemble([], pasts, rejected).corrections == errors
    assert Ensemble([], pasts, [*rejected, passed]).corrections == [None] * 3


@pytest.mark.parametrize("found", [(0.01, 0.02, False), (0.03, 0.02, True)])
def test_a_model_is_rejected_above_every_simulation(found: tuple[float, float, bool]) -> None:
    r2, control, rejected = found
    assert Specification(r2, (-0.01, control, 0.0), None).rejected == rejected


def test_users_of_a_fold_are_not_in_the_regression_that_predicts_them() -> None:
    """An error of each user that is unrelated to others cannot be predicted, also if a feature identifies the user."""
    rng = np.random.default_rng(0)
    users, impressions = 60, 40
    name, error = rng.normal(size=(users, 1)), rng.normal(size=(users, 1))
    features = np.broadcast_to(name, (users, impressions))[..., None]
    made = np.ones((users, impressions), bool)
    found = checks._explained(features, np.broadcast_to(error, made.shape), made, least=5)
    assert found.r2 < 0.1
    user = np.repeat(np.arange(users), impressions)
    assert all(len(set(user[held]) & set(user[~held])) == 0 for held in found.held)
    assert sum(held.astype(int) for held in found.held).tolist() == [1] * len(user)
