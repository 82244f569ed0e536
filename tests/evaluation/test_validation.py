"""Scores inside a trial equal `prefrec evaluate` on validation users."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.online import RollOut, evaluate_online
from prefrec_ray.evaluation.selection import model_score
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.evaluation.settings import (
    EvaluateSettings,
    FqeSettings,
    ModelSettings,
    NcisSettings,
    ValidationSettings,
)
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp

pytestmark = pytest.mark.usefixtures("short_fits")


@pytest.fixture(scope="module")
def simulated(small_platform: Path) -> PreparedDataset:
    return PreparedDataset.open(str(small_platform / "dataset"))


def policy_on(dataset: PreparedDataset, seed: int) -> Policy:
    generator = np.random.default_rng(seed)
    width, actions = dataset.metadata.state_dim, dataset.metadata.action_dim
    layer = (generator.normal(size=(actions, width)).astype(np.float32) * 0.3, np.zeros(actions, np.float32))
    ones = np.ones(actions, np.float32)
    return Policy(
        DeterministicActor(Mlp.from_layers([layer]), -ones, ones), dataset.state, dataset.normaliser, dataset.items()
    )


@pytest.fixture(scope="module")
def scorer(simulated: PreparedDataset) -> ValidationScorer:
    settings = ValidationSettings(online=True, users=8, estimators=("preference", "fqe", "ncis"))
    return ValidationScorer.prepare(simulated.uri, settings, ["frequency"])


def test_scores_are_those_of_an_evaluation(
    simulated: PreparedDataset, scorer: ValidationScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = partial(FqeSettings, updates=60)  # enough for a difference; negative controls are fitted too
    monkeypatch.setattr("prefrec_ray.evaluation.selection.validation.FqeSettings", few)
    all_scores = []
    for seed in (0, 1):
        policy = policy_on(simulated, seed)
        scores = scorer.scores(policy, "frequency")
        settings = EvaluateSettings(split="validation", estimators=("ncis", "fqe"), fqe=few(networks=1))
        records = evaluate(EvaluationRequest(simulated, {"p": policy}, ["frequency"], scorer.clone, settings)).records
        by = {record.estimator: record for record in records if record.subject == "p"}
        assert scores["validation/ncis"] == pytest.approx(by["ncis"].value, rel=1e-12)
        assert scores["validation/ess"] == pytest.approx(by["ncis"].ess, rel=1e-12)
        assert scores["validation/fqe"] == pytest.approx(by["fqe"].value, rel=1e-9)
        assert set(scores) == set(scorer.settings.reported)
        records = evaluate_online(simulated, {"p": policy}, ["frequency"], RollOut("validation", users=8))
        (record,) = [r for r in records if r.subject == "p"]
        assert record.users_left_out == 0
        assert scores["validation/online"] == pytest.approx(record.value, rel=1e-12)
        all_scores.append(scores)
    assert all_scores[0] != all_scores[1]


def test_when_a_trial_is_scored() -> None:
    def due(every: int | None) -> list[bool]:
        settings = ValidationSettings(every=every)
        return [settings.due(iteration, iteration == 5) for iteration in range(1, 6)]

    assert due(None) == [False, False, False, False, True]
    assert due(2) == [False, True, False, True, True]


def test_the_first_estimator_chooses(simulated: PreparedDataset) -> None:
    scorer = ValidationScorer.prepare(simulated.uri, ValidationSettings(estimators=("ncis",)), ["depth"])
    assert scorer.metric == "validation/ncis"
    assert scorer.histories is None
    assert set(scorer.scores(policy_on(simulated, 0), "depth")) == {"validation/ncis", "validation/ess"}
    assert ValidationScorer("", ValidationSettings(), scorer.clone, {}, None).metric == "validation/model"


def test_ncis_is_that_of_the_settings(simulated: PreparedDataset, scorer: ValidationScorer) -> None:
    ncis = NcisSettings(sigma=0.5, aggregate="product", cap=None)
    settings = ValidationSettings(estimators=("ncis",), ncis=ncis)
    policy = policy_on(simulated, 0)
    scores = replace(scorer, settings=settings, histories=None).scores(policy, "frequency")
    about = EvaluateSettings(split="validation", estimators=("ncis",), ncis=ncis)
    records = evaluate(EvaluationRequest(simulated, {"p": policy}, ["frequency"], scorer.clone, about)).records
    (value,) = [record.value for record in records if record.subject == "p"]
    assert scores["validation/ncis"] == value
    defaults = replace(scorer, settings=ValidationSettings(estimators=("ncis",)), histories=None)
    assert value != defaults.scores(policy, "frequency")["validation/ncis"]


def test_preferences_are_those_of_the_teachers_named(simulated: PreparedDataset, scorer: ValidationScorer) -> None:
    settings = ValidationSettings(estimators=("preference",))
    other = ValidationScorer.prepare(simulated.uri, settings, ["frequency"], ["any_users_sum"])
    own = replace(scorer, settings=settings)  # without its other estimators, which take seconds to fit
    first, second = (one.scores(policy_on(simulated, 0), "frequency") for one in (own, other))
    assert first["validation/preference"] != second["validation/preference"]


def test_scores_by_preference_need_preferences(simulated: PreparedDataset, tmp_path: Path) -> None:
    shutil.copytree(simulated.uri, tmp_path / "dataset")
    metadata = tmp_path / "dataset" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "teachers": []}))
    with pytest.raises(UserError, match=r"no preferences for the validation estimator .* expected fqe or ncis instead"):
        ValidationScorer.prepare(
            str(tmp_path / "dataset"), ValidationSettings(estimators=("preference",)), ["frequency"]
        )


def test_roll_outs_need_a_world(tiny_dataset: str) -> None:
    with pytest.raises(UserError, match="which did not make these logs"):
        ValidationScorer.prepare(tiny_dataset, ValidationSettings(online=True), ["depth"])


def test_the_model_of_users_scores(simulated: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_score, "SETTINGS", ModelSettings(models=2, users=8, requests=40))
    scorer = ValidationScorer.prepare(simulated.uri, ValidationSettings(), ["frequency"])
    assert scorer.clone is None
    assert scorer.metric == "validation/model"
    nearest = policy_on(simulated, 0)
    scores = scorer.scores(nearest, "frequency")
    assert scores == scorer.scores(nearest, "frequency")
    assert list(scores) == ["validation/model"]
    assert -5 <= scores["validation/model"] <= 5
