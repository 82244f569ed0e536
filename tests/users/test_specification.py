"""The specification test finds a law that a model cannot have, names it, and accepts a model that has the law."""

from __future__ import annotations

import numpy as np
import pytest
from logged_users import ITEMS, NORMALISER, STATE, histories, inputs_of

from prefrec_ray.users import checks, fit
from prefrec_ray.users.checks import Specification, specification_test
from prefrec_ray.users.fit import KINDS, fit_member
from prefrec_ray.users.roll_out import Platform

REQUESTS = 80


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws are simple: batches of a quarter of the size find them."""
    monkeypatch.setattr(fit, "BATCH", 256)


def result_of(cost_of_repeats: float, kind: str) -> Specification:
    """Fit a model of this kind to some users, and test it on others."""
    training, held = (histories(200, REQUESTS, seed, cost_of_repeats) for seed in (0, 1))
    inputs, logged = inputs_of(training)
    (chosen,) = (one for one in KINDS if one.name == kind)
    member = fit_member(chosen, inputs, training, inputs.scaled(logged), seed=3)
    platform = Platform(STATE, NORMALISER, ITEMS, held, np.arange(len(held.starts)), 0.5, REQUESTS)
    return specification_test(platform, member, seed=4)


def test_a_law_without_an_effect_of_repeats_is_accepted() -> None:
    result = result_of(0.0, "means")
    assert not result.rejected
    assert result.feature is None
    assert len(result.controls) == checks.SIMULATIONS


def test_a_model_without_exposure_counts_is_rejected_if_repeats_matter() -> None:
    result = result_of(3.0, "means")
    assert result.rejected
    assert result.feature is not None
    assert result.feature.startswith(("impressions of the item's kind", "impressions since the item's kind"))


@pytest.mark.parametrize("found", [(0.01, 0.02, False), (0.03, 0.02, True)])
def test_a_model_is_rejected_above_every_simulation(found: tuple[float, float, bool]) -> None:
    r2, control, rejected = found
    assert Specification(r2, (-0.01, control, 0.0), None).rejected == rejected
