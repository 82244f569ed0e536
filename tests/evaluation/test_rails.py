"""Intervals of guard-rails against closed forms, and guard-rails and current policies that are refused."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hand_made import direction
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from state_definitions import changed

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation import run as evaluation_run
from prefrec_ray.evaluation.behavior import BehaviorClone
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.rails import half_width, rail_records, record_of
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.estimators.subject_roll_outs import Modelled
from prefrec_ray.evaluation.results.names import CURRENT, LOGGING_POLICY
from prefrec_ray.evaluation.run import EvaluationRun, run_evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.guard_rails import GuardRail
from prefrec_ray.policy import Policy
from prefrec_ray.settings import parse
from prefrec_ray.users.measures import excess
from prefrec_ray.users.roll_out import Imagined

LIKES = GuardRail.from_text("feedback.like >= -2 %")


def test_a_half_width_has_the_errors_of_users_and_models() -> None:
    """Users differ by a known step in both models, which differ by 0.2."""
    users = np.arange(5) * 0.1
    values = np.stack([users, users + 0.2])
    of_users = stats.t.ppf(0.975, 4) * users.std(ddof=1) / math.sqrt(5)
    of_models = stats.t.ppf(0.975, 1) * 0.1
    assert half_width(values, 0.05) == pytest.approx(math.hypot(of_users, of_models))
    assert half_width(np.stack([users, users]), 0.05) == pytest.approx(of_users)
    assert half_width(np.zeros((2, 5)), 0.05) == 0


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=20), st.floats(0, 1), st.floats(0.001, 0.05))
def test_more_guard_rails_and_errors_only_widen_an_interval(users: list[float], error: float, missed: float) -> None:
    over = np.stack([users, users])[:, :, None]
    plain = record_of(LIKES, over, over, 0.0, 0.05)
    wide = record_of(LIKES, over, over, error, missed)
    assert wide.low <= plain.low <= plain.high <= wide.high
    assert wide.value == plain.value == pytest.approx(np.mean(users))
    order = {"kept": 0, "broken": 0, "open": 1}
    assert order[wide.status] >= order[plain.status]


def test_the_largest_share_is_bounded_by_each_share() -> None:
    """Two makers with shares of 30 % and 25 %; the interval of the second is wider."""
    rail = GuardRail.from_text("exposure[maker] <= 40 %")
    first, second = np.full(6, 0.3), np.tile([0.05, 0.45], 3)
    values = np.tile(np.stack([first, second], axis=1), (2, 1, 1))
    found = record_of(rail, values, values - 0.4, 0.0, 0.05)
    half = stats.t.ppf(0.975, 5) * second.std(ddof=1) / math.sqrt(6)
    assert (found.value, found.allowed) == pytest.approx((0.3, 0.4))
    assert (found.low, found.high) == pytest.approx((-0.1, 0.25 + half - 0.4))
    assert found.status == "open"


@pytest.mark.parametrize("text", ["feedback.score >= -2 %", "feedback.score <= 2 %"])
def test_a_change_of_negative_feedback_is_relative_to_its_size(text: str) -> None:
    rail, values = GuardRail.from_text(text), np.tile(np.linspace(-1.5, -0.5, 6)[:, None], (2, 1, 1))
    found = record_of(rail, values, excess(rail, values, values), 0.0, 0.05)
    assert found.allowed == pytest.approx(-1.02 if rail.at_least else -0.98)
    assert found.found.startswith("+0.0 %")
    assert found.status != "broken"


def test_a_measure_without_users_is_open() -> None:
    never = np.full((2, 3, 1), np.nan)
    found = record_of(GuardRail.from_text("hours_to_return <= 5 %"), never, never, 0.0, 0.05)
    assert (found.status, found.value, found.found) == ("open", None, "not measured")


def modelled(likes: float, apart: float = 0.0) -> Modelled:
    """A roll-out of 30 users in two models whose means of likes are `apart`; users differ by the same factors."""
    users = (likes + apart * np.array([[-0.5], [0.5]])) * np.linspace(0.5, 1.5, 30)
    nothing, ones = np.zeros(0), np.ones((2, 30))
    rows = np.zeros((2, 30, 4), np.int32)
    imagined = Imagined({}, {}, ones, ones, nothing, nothing, nothing, 1, rows, users[:, :, None], ones)
    return Modelled(imagined, 1.0, nothing, {}, {}, {})


def records(own: Modelled, *texts: str, **others: Modelled) -> Any:
    """Guard-rails of the policy p, next to the logging policy with 0.4 likes per impression."""
    request: Any = SimpleNamespace(
        settings=EvaluateSettings(guard_rails=texts),
        current=others.get(CURRENT),
        dataset=SimpleNamespace(state=SimpleNamespace(feedback=("like",))),
        clone=SimpleNamespace(policy=SimpleNamespace(items=None)),
        policies={"p": None},
    )
    return rail_records(request, {LOGGING_POLICY: modelled(0.4), "p": own, **others}).get("p", ())


def test_guard_rails_are_relative_to_the_logging_policy_or_the_current_policy() -> None:
    (found,) = records(modelled(0.36), "feedback.like >= -2 %")
    paired = (0.36 - 0.98 * 0.4) * np.linspace(0.5, 1.5, 30)
    half = stats.t.ppf(0.975, 29) * paired.std(ddof=1) / math.sqrt(30)
    assert (found.value, found.allowed, found.status) == (pytest.approx(0.36), pytest.approx(0.392), "broken")
    assert (found.low, found.high) == pytest.approx((-0.032 - half, -0.032 + half))
    assert found.text.startswith("feedback.like >= -2 %: -10.0 % [")
    (than_current,) = records(modelled(0.36), "feedback.like >= -2 %", **{CURRENT: modelled(0.36)})
    assert (than_current.allowed, than_current.status) == (pytest.approx(0.98 * 0.36), "kept")
    assert records(modelled(0.36)) == ()


def test_the_interval_contains_the_disagreement_of_models() -> None:
    """The models' means are .49 and .51: a standard deviation of .0141, and a standard error of .01."""
    alike = records(modelled(0.5), "feedback.like >= 5 %")[0]
    (found,) = records(modelled(0.5, apart=0.02), "feedback.like >= 5 %")
    half = (alike.high - alike.low) / 2
    of_models = stats.t.ppf(0.975, 1) * math.hypot(0.01, 0.02 / math.sqrt(2))
    assert (found.high - found.low) / 2 == pytest.approx(math.hypot(half, of_models), rel=1e-4)
    assert (alike.status, found.status) == ("kept", "open")


def test_a_measure_that_no_user_has_in_a_model_is_open() -> None:
    """No user returns in the second model of the reference, and none at all under the policy."""

    def with_hours(hours: Any) -> Modelled:
        one = modelled(0.4)
        return replace(one, imagined=replace(one.imagined, revisit_hours=np.broadcast_to(hours, (2, 30))))

    logging = with_hours(np.array([[3.0], [np.nan]]))
    (found,) = records(with_hours(np.nan), "hours_to_return <= 5 %", **{LOGGING_POLICY: logging})
    assert (found.status, found.value) == ("open", None)
    (found,) = records(with_hours(2.0), "hours_to_return <= 5 %", **{LOGGING_POLICY: logging})
    assert (found.status, found.value, found.allowed) == ("kept", pytest.approx(2.0), pytest.approx(3.15))


def test_intervals_are_simultaneous() -> None:
    single = records(modelled(0.39), "feedback.like >= -2 %")[0]
    several = records(modelled(0.39), "feedback.like >= -2 %", "depth >= -5 %", "sessions >= -5 %")
    half = (stats.t.ppf(1 - 0.025 / 3, 29) / stats.t.ppf(0.975, 29)) * (single.high - single.low) / 2
    assert [one.rail for one in several] == ["feedback.like >= -2 %", "depth >= -5 %", "sessions >= -5 %"]
    assert (several[0].high - several[0].low) / 2 == pytest.approx(half)


def test_models_of_different_scales_agree_on_a_change() -> None:
    """In the second model all users have ten times the likes; both lose 5 %."""
    scales = np.array([1.0, 10.0])[:, None, None]

    def scaled(likes: float) -> Modelled:
        one = modelled(likes)
        return replace(one, imagined=replace(one.imagined, feedback=one.imagined.feedback * scales))

    (found,) = records(scaled(0.38), "feedback.like >= -2 %", **{LOGGING_POLICY: scaled(0.4), CURRENT: scaled(0.4)})
    assert found.text.startswith("feedback.like >= -2 %: -5.0 % [")
    assert found.status == "broken"


def test_an_unknown_name_and_another_platform_are_one_line(
    dataset: PreparedDataset,
    clone: BehaviorClone,
    policies: dict[str, Policy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation_run, "check_complete", lambda dataset: None)  # it has few files
    settings = EvaluateSettings(guard_rails=("feedback.likes >= -2 %",))
    with pytest.raises(UserError, match=r"found feedback 'likes'; expected one of like$"):
        evaluate(EvaluationRequest(dataset, policies, ["frequency"], clone, settings))
    provenance = {"task": "frequency", "method": "TD3_BC"}
    direction(dataset, 0.5, provenance=provenance).save(str(tmp_path / "policy"))
    elsewhere = changed(dataset.state, session_gap_ms=dataset.state.session_gap_ms + 1)
    replace(direction(dataset, 0.5, provenance=provenance), state=elsewhere).save(str(tmp_path / "other"))
    for current, message in (
        (tmp_path / "none", r"none/policy\.json"),
        (tmp_path / "other", r"^evaluate\.current: policy .*/other: found other states than in"),
    ):
        run = EvaluationRun([str(tmp_path / "policy")], dataset.uri, EvaluateSettings(current=str(current)))
        with pytest.raises(UserError, match=message):
            run_evaluation(run)
    assert not (tmp_path / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"guard_rails": ["depth >= -5 %"], "estimators": ["ncis"]}, "found estimators ncis; expected model among"),
        ({"current": "policy", "estimators": ["dr"]}, "current: found estimators dr; expected model among them"),
        ({"guard_rails": ["depth >= -5 %", "depth>=-5%"]}, "expected each once"),
        ({"guard_rails": ["likes >= -2 %"]}, "expected for example 'feedback.like >= -2 %'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(EvaluateSettings, section, "evaluate")
