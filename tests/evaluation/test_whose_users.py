"""Splits of users for fits and evaluations. Tasks run in this process, so that fits can be observed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from hand_made import direction
from ray.remote_function import RemoteFunction

from prefrec_ray import runtime
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation import behavior
from prefrec_ray.evaluation.estimators import fitted_q, importance_weights, model, subject_roll_outs
from prefrec_ray.evaluation.estimators.fitted_q import Fitted, FittedQ
from prefrec_ray.evaluation.estimators.importance_weights import ItemWeights, Logged
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, EvaluationWork
from prefrec_ray.evaluation.results.names import LOGGING_POLICY
from prefrec_ray.evaluation.selection import model_score
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.evaluation.settings import EvaluateSettings, FqeSettings, ModelSettings, ValidationSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.runtime.progress import silent
from prefrec_ray.users import ensemble
from prefrec_ray.users.checks import Specification
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.reading import histories_of
from prefrec_ray.users.roll_out import PARTS, Imagined

SPLITS = ("train", "validation", "test")


class Reference:
    """Replacement of Ray's reference: it contains the stored value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __iter__(self) -> Iterator[Reference]:
        """The references of a task with several results."""
        return map(Reference, self.value)


@pytest.fixture(autouse=True)
def tasks_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Any, *args: Any) -> Reference:
        given = [get(value) if isinstance(value, Reference) else value for value in args]
        return Reference(inspect.unwrap(vars(task)["remote"])(*given))

    def get(references: Any) -> Any:
        return [one.value for one in references] if isinstance(references, list) else references.value

    monkeypatch.setattr(RemoteFunction, "remote", property(lambda task: partial(run, task)), raising=False)
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "put", Reference)
    monkeypatch.setattr(ray, "wait", lambda references, **options: (references[:1], references[1:]))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1})
    monkeypatch.setattr(runtime, "start_ray", lambda *args, **kwargs: None)


@pytest.fixture(scope="module")
def states(dataset: PreparedDataset) -> dict[str, np.ndarray]:
    """Return the states of all impressions by split. The data set is small enough to use all of them."""
    return {split: histories_of(dataset, split, seed=0).state for split in SPLITS}


def split_of(states: dict[str, np.ndarray], own: np.ndarray) -> str:
    """Return the split that contains these states, in any order."""
    (split,) = (name for name, all_of in states.items() if rows_of(own) <= rows_of(all_of))
    return split


def rows_of(states: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(states)}


def request_on(dataset: PreparedDataset, settings: EvaluateSettings) -> EvaluationRequest:
    """One policy that draws from all items, and a clone without a fit."""
    clone: Any = SimpleNamespace(policy=direction(dataset, 0.0), residual_rms=0.3, mean_action=np.zeros(2, np.float32))
    serving = ServingSettings(rule="sample", temperature=1.0, variety=0.0)
    policy = direction(dataset, 0.3, serving=serving, deviation=0.6)
    return EvaluationRequest(dataset, {"right": policy}, ["frequency"], clone, settings)


@pytest.fixture
def watched(states: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Record the splits of models of users: for fits, for support by the log, and for roll-outs."""
    seen: dict[str, list[str]] = {"fit": [], "tested": [], "pasts": [], "rolled": []}
    in_fits: list[np.ndarray] = []
    scales = ensemble.Inputs.from_histories

    def inputs(state: Any, normaliser: Any, items: Any, data: Any) -> Any:
        in_fits.append(data.state)
        return scales(state, normaliser, items, data)

    monkeypatch.setattr(ensemble.Inputs, "from_histories", inputs)

    def fit(kind: Any, inputs: Any, data: Any, *_: Any) -> str:
        seen["fit"].append(split_of(states, data.state))
        in_fits.append(data.state)
        return kind.name

    def test(platform: Any, *_: Any) -> Specification:
        seen["tested"].append(split_of(states, platform.data.state))
        # In no part of a fit: not in weights, nor in the inputs with their scales, tastes and effects.
        tested = rows_of(platform.data.state)
        assert len(platform.users) > 0
        assert all(tested.isdisjoint(rows_of(used)) for used in in_fits)
        return Specification(0.0, (0.1,), None)

    def pasts(data: Any, *_: Any) -> Any:
        seen["pasts"].append(split_of(states, data.state))
        in_fits.append(data.state)
        return SimpleNamespace(share=lambda inputs: float(len(inputs) > 0), columns=np.array([0]))

    def roll(platform: Any, models: Any, *_: Any, **__: Any) -> Any:
        seen["rolled"].extend([split_of(states, platform.data.state)] * len(models))
        levels = np.full((len(models), len(platform.users)), 0.5)
        # Whose histories only users have who are in no part of a fit.
        assert rows_of(platform.data.state).isdisjoint(set().union(*map(rows_of, in_fits)))
        inputs, part = np.zeros((1, len(platform.users), 1), np.float32), np.zeros(1, np.int64)
        parts = np.repeat(levels[:, :, None], PARTS, axis=2)
        rows, feedback = np.zeros((*levels.shape, 1), np.int32), levels[:, :, None]
        return Imagined(
            *({"frequency": levels}, {"frequency": parts}, levels, levels, inputs, part),
            *(np.zeros(1, np.int64), 10, rows, feedback, levels),
        )

    monkeypatch.setattr(ensemble, "fit_member", fit)
    monkeypatch.setattr(ensemble, "specification_test", test)
    monkeypatch.setattr(ensemble.LoggedPasts, "from_histories", pasts)
    for module in (subject_roll_outs, model_score):
        monkeypatch.setattr(module, "roll_out", roll)
        monkeypatch.setattr(module.Traits, "find", lambda *_: None)
    return seen


@pytest.mark.parametrize("split", ["validation", "test"])
def test_models_of_an_evaluation_know_users_of_its_split_and_are_asked_about_others_of_them(
    dataset: PreparedDataset, watched: dict[str, list[str]], split: Any
) -> None:
    settings = EvaluateSettings(split=split, estimators=("model",), model=ModelSettings(models=2, users=10))
    work = EvaluationWork(request_on(dataset, settings), silent)
    fits = model.start_models(dataset, settings)
    rolled = subject_roll_outs.roll_out_all(work, fits.ensemble(), fits.held)
    assert LOGGING_POLICY in rolled
    assert {(one.within, len(one.imagined.inputs)) for one in rolled.values()} == {(1.0, 0)}  # shared, then let go
    rolls = [split] * len(rolled) * 2
    assert watched == {"fit": [split] * 2, "tested": [split] * 2, "pasts": [split], "rolled": rolls}


def test_a_score_by_models_of_users_is_of_validation_users(
    dataset: PreparedDataset, watched: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_score, "SETTINGS", ModelSettings(models=2, users=10))
    scorer = ValidationScorer.prepare(dataset.uri, ValidationSettings(), ["frequency"])
    assert scorer.scores(direction(dataset, 0.8), "frequency") == {"validation/model": 0.5}
    assert watched == {"fit": ["train"] * 2, "tested": [], "pasts": ["train"], "rolled": ["validation"] * 4}


@pytest.mark.parametrize("estimators", [("weights",), ("dr",), ("weights", "dr")])
def test_the_logging_policy_is_learned_from_training_users(
    dataset: PreparedDataset, states: dict[str, np.ndarray], estimators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its probabilities are computed for the impressions of the split that they weight. It is fitted once."""
    learned, weighed = [], []
    fit, weigh = importance_weights.fit_behavior, importance_weights.weigh

    def watched_fit(data: Histories, *rest: Any) -> Any:
        learned.append(split_of(states, data.state))
        return fit(data, *rest)

    def watched_weigh(*given: Any) -> Any:
        (logged,) = (one for one in given if isinstance(one, Logged))
        weighed.append(split_of(states, logged.data.state))
        assert np.isfinite(logged.log_b).all()
        assert len(logged.log_b) == len(logged.data.row)
        return weigh(*given)

    monkeypatch.setattr(behavior, "UPDATES", 1)
    monkeypatch.setattr(importance_weights, "fit_behavior", watched_fit)
    monkeypatch.setattr(importance_weights, "weigh", watched_weigh)
    settings = EvaluateSettings(estimators=estimators, fqe=FqeSettings(updates=1, networks=1))
    work = EvaluationWork(request_on(dataset, settings), silent)
    weights = ItemWeights(work)
    split: Any = None
    if "weights" in estimators:
        weights.start()
        weights.finish(split)
    if "dr" in estimators:
        FittedQ(work, weights).finish(split)
    assert learned == ["train"]
    assert weighed == ["test"] * 2 * len(estimators)  # the policy's, and random items


def test_fitted_q_learns_from_training_users_and_is_asked_about_the_others(
    dataset: PreparedDataset, states: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whose = []
    scores = np.zeros((1, 3))

    def fit(training: Histories, held: Histories, *_: Any) -> Fitted:
        whose.append((split_of(states, training.state), split_of(states, held.state)))
        return Fitted(scores, scores, 1.0, {}, kernel=True)

    monkeypatch.setattr(fitted_q, "fit_subject", fit)
    settings = EvaluateSettings(split="validation", estimators=("fqe",))
    work, split = EvaluationWork(request_on(dataset, settings), silent), None
    FittedQ(work, ItemWeights(work)).finish(split)
    assert set(whose) == {("train", "validation")}


def test_no_split_is_another(dataset: PreparedDataset, states: dict[str, np.ndarray]) -> None:
    for split in SPLITS:
        assert split_of(states, histories_of(dataset, split, 0).state) == split
