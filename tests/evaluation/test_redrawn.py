"""Networks of fitted-Q are fitted on users drawn again: others for each network, the same for every subject."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hand_made import direction

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.estimators import fitted_q
from prefrec_ray.evaluation.estimators.fitted_q import fit_subject, task_steps
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.settings import EvaluateSettings, FqeSettings
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.reading import histories_of


@pytest.fixture(scope="module")
def training(dataset: PreparedDataset) -> Histories:
    return histories_of(dataset, "train", 0)


def drawn(
    dataset: PreparedDataset, training: Histories, name: str, networks: int, monkeypatch: pytest.MonkeyPatch
) -> list[np.ndarray | None]:
    """The steps that each network of a subject is fitted on; no network is."""
    asked: list[np.ndarray | None] = []

    def fit(data: Histories, known: Any, served: Any, about: Any, seed: int, among: np.ndarray | None) -> Any:
        assert data is training
        asked.append(among)
        return SimpleNamespace(mean_level=lambda states, actions: np.zeros(len(states)))

    monkeypatch.setattr(fitted_q, "fit_q", fit)
    clone: Any = SimpleNamespace(policy=direction(dataset, 0.0), residual_rms=0.3, mean_action=np.zeros(2, np.float32))
    settings = EvaluateSettings(fqe=FqeSettings(networks=networks))
    request = EvaluationRequest(dataset, {"right": direction(dataset, 0.8)}, ["frequency"], clone, settings)
    held = histories_of(dataset, "test", 0)
    fit_subject(training, held, request, "frequency", name)
    return asked


def test_each_network_has_users_of_its_own_and_each_subject_the_same(
    dataset: PreparedDataset, training: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = task_steps(training, "frequency", dataset.metadata.mixture_weight)
    steps_of = np.bincount(known.user, minlength=known.users)
    times = []
    for among in drawn(dataset, training, "right", 3, monkeypatch):
        assert among is not None
        by_step = np.bincount(among, minlength=len(known.row))
        own = by_step[np.searchsorted(known.user, np.arange(known.users))]
        np.testing.assert_array_equal(by_step, np.repeat(own, steps_of))  # whole users
        assert own.sum() == known.users  # as many as there are
        assert (own == 0).mean() == pytest.approx(np.exp(-1), abs=0.1)
        times.append(own)
    assert len(times) == 3
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (times[one] != times[other]).mean() > 0.4
    for name in ("behaviour", "random items"):
        again = drawn(dataset, training, name, 3, monkeypatch)
        assert [np.bincount(a, minlength=len(known.row)).tolist() for a in again if a is not None] == [
            np.repeat(own, steps_of).tolist() for own in times
        ]


def test_one_network_is_fitted_on_the_users_there_are(
    dataset: PreparedDataset, training: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    (among,) = drawn(dataset, training, "right", 1, monkeypatch)
    assert among is None
