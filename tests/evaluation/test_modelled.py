"""The estimator `model`, the whole way through Ray: who is better, who worse, and of whom the log cannot say."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hand_made import direction

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation import modelled, run
from prefrec_ray.evaluation.clone import BehaviourClone
from prefrec_ray.evaluation.estimates import evaluate
from prefrec_ray.evaluation.histories import histories_of
from prefrec_ray.evaluation.records import Evaluation
from prefrec_ray.evaluation.request import EvaluationRequest
from prefrec_ray.evaluation.settings import EvaluateSettings, ModelSettings
from prefrec_ray.evaluation.verdict import verdicts
from prefrec_ray.policy import Policy


@pytest.fixture(scope="module")
def evaluated(dataset: PreparedDataset, policies: dict[str, Policy], clone: BehaviourClone) -> Evaluation:
    settings = EvaluateSettings(estimators=("model",), model=ModelSettings(models=2, users=60, requests=60))
    near = direction(dataset, 0.3, provenance={"method": "TD3_BC"})
    return evaluate(EvaluationRequest(dataset, {**policies, "near": near}, ["frequency"], clone, settings))


def test_histories_are_those_of_the_log(dataset: PreparedDataset) -> None:
    data = histories_of(dataset, "test", seed=0)
    files = dataset.files("requests", "test")
    rows = [row for file in files for row in dataset.read(file).to_pylist()]
    sessions = [row for file in dataset.files("sessions") for row in dataset.read(file).to_pylist()]
    assert len(data.timestamp) == len(rows)
    users = [rows[start]["user_id"] for start in data.starts]
    for user, depth, revisit in zip(users, data.mean_depth, data.mean_revisit_ms, strict=True):
        own = [s for s in sessions if s["user_id"] == user]
        assert depth == pytest.approx(np.mean([s["depth"] for s in own]))
        known = [s["revisit_ms"] for s in own if s["revisit_ms"] is not None]
        assert (np.isnan(revisit) and not known) or revisit == pytest.approx(np.mean(known))
    assert data.ends.sum() == sum(1 for s in sessions if s["split"] == "test" and s["revisit_ms"] is not None)
    assert histories_of(dataset, "test", seed=0, rows=len(rows) // 2).starts.size < data.starts.size


def test_gains_have_the_sign_of_the_truth(evaluated: Evaluation) -> None:
    gains = {record.subject: record.gain for record in evaluated.of("frequency", "model")}
    assert gains["behaviour"] == pytest.approx(0)
    (logging,) = (r for r in evaluated.of("frequency", "model") if r.subject == "behaviour")
    assert logging.value == pytest.approx(logging.settings["logged_level"], rel=0.35)
    assert {name: served.requests for name, served in evaluated.served.items()} == dict.fromkeys(
        ("right", "left", "near", "imitation", "behaviour"), evaluated.served["behaviour"].requests
    )
    assert all(record.sessions > record.users for record in evaluated.of("frequency", "model"))
    assert gains["near"] > 0.1
    assert gains.get("left", -1.0) < 0


def test_policies_that_the_log_cannot_vouch_for_have_no_estimate(
    dataset: PreparedDataset, policies: dict[str, Policy], clone: BehaviourClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelled, "THRESHOLD", 1.01)
    settings = EvaluateSettings(estimators=("model",), model=ModelSettings(models=2, users=10, requests=40))
    evaluation = evaluate(EvaluationRequest(dataset, policies, ["frequency"], clone, settings))
    assert {name: support.supported for name, support in evaluation.support.items()} == {"right": False, "left": False}
    assert not [record for record in evaluation.records if record.role == "policy"]
    assert {said.verdict for said in verdicts(evaluation).values()} == {"cannot_say"}


def test_the_same_seed_says_the_same(
    dataset: PreparedDataset, policies: dict[str, Policy], clone: BehaviourClone
) -> None:
    settings = EvaluateSettings(estimators=("model",), model=ModelSettings(models=2, users=10, requests=30))
    request = EvaluationRequest(dataset, {"right": policies["right"]}, ["frequency"], clone, settings)
    one, again = (evaluate(request) for _ in range(2))
    assert one.records == again.records
    other = replace(request, settings=settings.model_copy(update={"seed": 1}))
    assert evaluate(other).records != one.records


def test_random_items_of_a_large_catalogue_are_drawn_by_parts() -> None:
    """In the memory of some users', and the same as all at once."""
    users, items = 37, 400_001
    seen = np.random.default_rng(1).random((users, items)) < 0.5
    at_once = (np.random.default_rng(0).random((users, items), np.float32) + seen).argmin(axis=1)
    tracemalloc.start()
    drawn = modelled._random(np.random.default_rng(0), users, items, seen)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(drawn, at_once)
    assert not seen[np.arange(users), drawn].any()
    assert peak < 0.6 * 4 * seen.size


@pytest.mark.parametrize(("asked", "left"), [({}, ("ncis",)), ({"estimators": ("model",)}, ("model",))])
def test_short_histories_have_no_model_by_default(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch, asked: dict, left: tuple[str, ...]
) -> None:
    assert run._possible(EvaluateSettings(**asked), dataset).estimators == asked.get("estimators", ("model", "ncis"))
    monkeypatch.setattr(run, "too_short", lambda dataset, splits: "nobody has two sessions")
    assert run._possible(EvaluateSettings(**asked), dataset).estimators == left
