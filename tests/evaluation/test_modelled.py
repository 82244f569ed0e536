"""The estimator `model` through Ray: better, worse and unsupported policies, the current one, and guard-rails."""

import math
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hand_made import direction
from scipy import stats

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation import run
from prefrec_ray.evaluation.behavior import BehaviorClone
from prefrec_ray.evaluation.estimators import model, subject_roll_outs
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.results.names import CURRENT
from prefrec_ray.evaluation.results.records import Evaluation, ItemShare, ServedItems
from prefrec_ray.evaluation.settings import EvaluateSettings, ModelSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.users.reading import histories_of
from prefrec_ray.users.roll_out import Imagined


@pytest.fixture(scope="module")
def evaluated(dataset: PreparedDataset, policies: dict[str, Policy], clone: BehaviorClone) -> Evaluation:
    """`much` serves items with a large first coordinate, which are liked and bring users back, `less` the opposite.

    `near` serves more of the same items than `much`, which is the current policy.
    """
    drawing = ServingSettings(rule="sample", temperature=1.0, variety=0.0)
    several = {
        name: direction(dataset, first, serving=drawing, deviation=deviation, provenance={"method": "TD3_BC"})
        for name, first, deviation in (("near", 0.6, 0.4), ("much", 0.2, 0.3), ("less", -0.5, 0.3))
    }
    settings = EvaluateSettings(
        estimators=("model",),
        model=ModelSettings(models=2, users=40, requests=60),
        guard_rails=("feedback.like >= -10 %", "share[cluster: 0] <= 99 %", "share[cluster: 0] >= 99.5 %"),
    )
    request = EvaluationRequest(
        dataset, {**policies, **several}, ["frequency"], clone, settings, current=several["much"]
    )
    return evaluate(request)


def test_histories_are_those_of_the_log(dataset: PreparedDataset) -> None:
    data = histories_of(dataset, "test", seed=0)
    files = dataset.files("requests", "test")
    rows = [row for file in files for row in dataset.read(file).to_pylist()]
    sessions = [row for file in dataset.files("sessions") for row in dataset.read(file).to_pylist()]
    assert len(data.timestamp) == len(rows)
    np.testing.assert_array_equal(data.state, [row["state"] for row in rows])
    np.testing.assert_array_equal(dataset.items().embeddings[data.row], data.action)
    assert np.isnan(data.propensity).all()
    of_split = sorted((s for s in sessions if s["split"] == "test"), key=lambda s: s["session_index"])
    levels = {name: [] for name in ("depth", "frequency")}
    for user in dict.fromkeys(row["user_id"] for row in rows):
        for name, column in levels.items():
            column += [s[f"level_{name}"] for s in of_split if s["user_id"] == user]
    np.testing.assert_array_equal(data.depth_level, np.array(levels["depth"], float))
    np.testing.assert_array_equal(data.frequency_level, np.array(levels["frequency"], float))
    users = [rows[start]["user_id"] for start in data.starts]
    for user, depth, revisit in zip(users, data.mean_depth, data.mean_revisit_ms, strict=True):
        own = [s for s in sessions if s["user_id"] == user]
        assert depth == pytest.approx(np.mean([s["depth"] for s in own]))
        known = [s["revisit_ms"] for s in own if s["revisit_ms"] is not None]
        # From whole timestamps; the hand-made sessions have fractions of a ms.
        assert (np.isnan(revisit) and not known) or revisit == pytest.approx(np.mean(known), abs=1)
    assert data.ends.sum() == sum(1 for s in sessions if s["split"] == "test" and s["revisit_ms"] is not None)
    assert histories_of(dataset, "test", seed=0, rows=len(rows) // 2).starts.size < data.starts.size


def test_time_away_is_counted_from_the_last_impression(dataset: PreparedDataset, tmp_path: Path) -> None:
    """The table of sessions counts from the end of the last item, here half of the time later."""
    shutil.copytree(dataset.uri, tmp_path / "longer")
    for file in (tmp_path / "longer" / "sessions").iterdir():
        table = pq.read_table(file)
        at = table.schema.get_field_index("revisit_ms")
        pq.write_table(table.set_column(at, "revisit_ms", pc.divide(table["revisit_ms"], 2)), file)
    longer = histories_of(PreparedDataset.open(str(tmp_path / "longer")), "test", seed=0)
    np.testing.assert_array_equal(longer.mean_revisit_ms, histories_of(dataset, "test", seed=0).mean_revisit_ms)


def test_histories_without_their_sessions_are_refused(dataset: PreparedDataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.uri, tmp_path / "less")
    file = tmp_path / "less" / "sessions" / "part-00002.parquet"
    pq.write_table(pq.read_table(file).slice(0, 40), file)
    with pytest.raises(UserError, match="less: found other sessions than"):
        histories_of(PreparedDataset.open(str(tmp_path / "less")), "train", seed=0)


def test_gains_have_the_sign_of_the_truth(evaluated: Evaluation) -> None:
    gains = {record.subject: record.gain for record in evaluated.select("frequency", "model")}
    assert gains["behaviour"] == pytest.approx(0)
    (logging,) = (r for r in evaluated.select("frequency", "model") if r.subject == "behaviour")
    assert logging.value == pytest.approx(logging.settings["logged_level"], rel=0.35)
    requests = {name: (served.counted, served.requests) for name, served in evaluated.served.items()}
    assert requests.pop("behaviour")[0] == "log"
    of_models = 40 * 2 * 60  # users, models, requests
    assert requests == dict.fromkeys(("right", "left", "near", "much", "less", "imitation"), ("roll-out", of_models))
    assert all(record.sessions > record.users for record in evaluated.select("frequency", "model"))
    assert gains["near"] > gains["random items"] > 0.1
    assert gains["left"] < 0
    assert evaluated.support["left"].states == 0.0


def test_a_policy_that_equals_the_current_one_gains_nothing_over_it(evaluated: Evaluation) -> None:
    found = {record.subject: record for record in evaluated.select("frequency", "model")}
    assert found["much"].gain_over_current == 0
    assert found["much"].gain_over_current_ci == (0, 0)
    assert found[CURRENT].value == found["much"].value
    assert found[CURRENT].role == "control"
    assert found["less"].gain_over_current == pytest.approx(found["less"].value - found["much"].value)
    low, high = found["less"].gain_over_current_ci
    assert low <= found["less"].gain_over_current < 0 < high - low
    assert found["imitation"].gain_over_current is None


def test_guard_rails_are_measured_in_roll_outs(evaluated: Evaluation) -> None:
    rails = evaluated.guard_rails
    assert [rail.status for rail in rails["much"]] == ["kept", "kept", "broken"]
    assert rails["less"][0].allowed == pytest.approx(0.9 * rails["much"][0].value)
    assert rails["less"][0].value < rails["less"][0].allowed
    assert rails["less"][0].status in ("open", "broken")
    assert 0 <= rails["less"][1].value == rails["less"][2].value < 0.9


def test_hours_and_items_have_intervals_over_users_models_and_error() -> None:
    """Three users alike, models 2 apart, a gain of 6 with an error of a fifth; Student's t of 1 is 12.7."""
    values, never = np.array([[9.0, 9.0, np.nan], [11.0, 11.0, 11.0]]), np.full((2, 3), np.nan)
    none = np.empty(0)
    one = Imagined({}, {}, values, never, none, none, none, 7, rows=none, feedback=none, daily_sessions=never)
    fields = model._own_units(one, replace(one, depth=np.full((2, 3), 4.2)), seed=0, error=0.2)
    assert fields.keys() == {"sessions", "mean_depth", "mean_depth_ci"}
    assert fields["mean_depth"] == pytest.approx(10.2)
    low, high = fields["mean_depth_ci"]
    assert low == 1.0  # no session is shorter
    assert high == pytest.approx(10.2 + np.sqrt(12.706**2 + (12.706 * np.sqrt(2)) ** 2 + 1.2**2), rel=0.01)
    alike = replace(one, depth=np.full((2, 3), 10.0))
    fields = model._own_units(alike, replace(one, depth=np.full((2, 3), 4.0)), seed=0, error=0.2)
    assert fields["mean_depth_ci"] == pytest.approx((8.8, 11.2))  # nothing but the error of the gain


def test_items_of_a_roll_out_are_counted_as_shown() -> None:
    log = ServedItems(requests=9, distinct_items=1, top_items=(ItemShare(item_id="c", share=1.0),), item_distance=0.5)
    ids, none = np.array(["c", "b", "a", "d"]), np.empty(0)
    counts = np.array([1, 3, 3, 0])
    imagined = Imagined({}, {}, none, none, none, none, counts, 1, none, none, daily_sessions=none, ceiling=0.5)
    shown = model._served(log, ids, imagined)
    assert [(item.item_id, round(7 * item.share)) for item in shown.top_items] == [("a", 3), ("b", 3), ("c", 1)]
    assert (shown.counted, shown.requests, shown.distinct_items, shown.item_distance) == ("roll-out", 7, 3, 0.5)
    assert shown.concentration(1) == pytest.approx(6 / 7)  # of a half that one item can have at most
    assert shown.concentration(2) == pytest.approx(6 / 7)


def test_intervals_contain_the_disagreement_of_models_and_the_error_of_the_back_test(evaluated: Evaluation) -> None:
    for name in evaluated.support:
        record = next(r for r in evaluated.records if r.subject == name)
        if name in ("near", "much", "less"):  # every user has a level in each model
            assert record.gain == pytest.approx(np.mean(record.gains_by_model), abs=0.02)
        disagreed, tested = np.std(record.gains_by_model, ddof=1), float(record.settings["backtest_error"])
        of_kinds = stats.t.ppf(0.975, len(record.gains_by_model) - 1) * disagreed
        error = math.hypot(of_kinds, 1.96 * tested)
        assert record.gain - record.gain_interval[0] >= min(error, record.gain + 5.0) - 1e-9
    assert min(support.states for support in evaluated.support.values()) < 1


def test_the_same_seed_says_the_same(
    dataset: PreparedDataset, policies: dict[str, Policy], clone: BehaviorClone, short_fits: None
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
    drawn = subject_roll_outs._random(np.random.default_rng(0), users, items, seen)[:, 0]
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
