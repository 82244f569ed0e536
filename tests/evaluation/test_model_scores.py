"""Records of the estimator `model`, from roll-outs that are written down here."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.model import Modelled, disagreement, model_scores, together
from prefrec_ray.evaluation.results.names import LOGGING_POLICY, Subject
from prefrec_ray.evaluation.results.scores import bootstrap_interval, widened
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.settings import parse
from prefrec_ray.users.roll_out import Imagined

USERS = 40


def rolled(levels: np.ndarray, away: float = 1.0, logged: float = 1.0) -> Modelled:
    """Roll-out by two models: levels [2, USERS], NaN if absent, the revisit time, and the level in the log."""
    ones = np.ones_like(levels)
    imagined = Imagined(
        levels={"depth": levels},
        depth=ones,
        revisit_hours=away * ones,
        inputs=np.zeros((0, 3), np.float32),
        counts=np.zeros(1, np.int64),
        sessions=10,
        rows=np.zeros((*levels.shape, 1), np.int32),
        feedback=ones[:, :, None],
        daily_sessions=away * ones,
    )
    return Modelled(imagined, 1.0, np.zeros((USERS, 3), np.float32), {"depth": np.full(USERS, logged)})


def request() -> Any:
    subjects = [Subject("a", "IL", "policy"), Subject("b", "IL", "policy")]
    return SimpleNamespace(settings=EvaluateSettings(), subjects_on=lambda task: subjects, current=None)


def test_intervals_are_of_the_users_that_the_value_is_of() -> None:
    """Users without a level under `b` have the highest other levels."""
    rng = np.random.default_rng(0)
    each = {name: rng.normal(mean, 0.2, (2, USERS)) for name, mean in ((LOGGING_POLICY, 1.0), ("a", 1.5), ("b", 1.2))}
    for name in (LOGGING_POLICY, "a"):
        each[name][:, :15] += 3.0
    each["b"][:, :15] = np.nan
    scores = model_scores(request(), "depth", {name: rolled(levels) for name, levels in each.items()})
    records = {record.subject: record for record in scores.records(seed=0)}
    kept = {name: levels[:, 15:] for name, levels in each.items()}
    by_model = np.stack([(kept[name] - kept[LOGGING_POLICY]).mean(axis=1) for name in records], axis=1)
    spread, size = by_model.var(axis=0, ddof=1).sum(), np.square(by_model.mean(axis=0)).sum()
    for name, record in records.items():
        values, gains = kept[name].mean(axis=0), (kept[name] - kept[LOGGING_POLICY]).mean(axis=0)
        assert record.value == pytest.approx(values.mean())
        for of, low, high in (
            (kept[name], record.ci_low, record.ci_high),
            (kept[name] - kept[LOGGING_POLICY], record.gain_ci_low, record.gain_ci_high),
        ):
            drawn = bootstrap_interval(of.mean(axis=0)[:, None], 0)
            wide = [float(bound[0]) for bound in widened(*drawn, of.mean(axis=1)[:, None])]
            error, mean = 1.96 * np.sqrt(spread / size) * abs(gains.mean()), of.mean()
            assert low == pytest.approx(mean - np.hypot(mean - wide[0], error))
            assert high == pytest.approx(mean + np.hypot(wide[1] - mean, error))
            assert low <= mean <= high
    assert (records["a"].users, records["a"].users_left_out) == (25, 15)


def test_roll_outs_of_one_subject_are_joined_in_the_order_of_the_models() -> None:
    levels = np.random.default_rng(0).normal(size=(2, USERS))
    parts = [replace(rolled(levels[[k]], away=k + 1.0), within=within) for k, within in enumerate((0.5, 0.9))]
    parts = [replace(part, imagined=replace(part.imagined, ceiling=0.25)) for part in parts]  # a log without repeats
    joined = together(parts)
    np.testing.assert_array_equal(joined.imagined.levels["depth"], levels)
    assert joined.imagined.revisit_hours[:, 0].tolist() == joined.imagined.daily_sessions[:, 0].tolist() == [1.0, 2.0]
    assert len(joined.imagined.rows) == len(joined.imagined.feedback) == 2
    assert (joined.within, joined.imagined.sessions) == (0.7, 10)
    assert joined.logged == parts[0].logged


def test_where_nobody_has_a_level_under_all_it_is_one_line() -> None:
    levels = {name: np.ones((2, USERS)) for name in (LOGGING_POLICY, "a")}
    modelled = {name: rolled(one) for name, one in (levels | {"b": np.full((2, USERS), np.nan)}).items()}
    with pytest.raises(UserError, match=r"no user of the model has a level on the task 'depth' .*fewest under 'b'"):
        model_scores(request(), "depth", modelled)


def test_where_nobody_has_a_level_under_one_of_the_models_it_is_one_line() -> None:
    modelled = {name: rolled(np.ones((2, USERS))) for name in (LOGGING_POLICY, "a", "b")}
    modelled["a"].imagined.levels["depth"][1] = np.nan
    with pytest.raises(UserError, match=r"no user of the model has a level .*fewest under 'a'"):
        model_scores(request(), "depth", modelled)


def test_where_the_log_has_no_level_the_model_is_held_against_it_is_one_line() -> None:
    """For example, its first impressions are one session per user."""
    modelled = {name: rolled(np.ones((2, USERS)), logged=float("nan")) for name in (LOGGING_POLICY, "a", "b")}
    with pytest.raises(UserError, match=r"a level on the task 'depth' in the first 250 impressions of the log"):
        model_scores(request(), "depth", modelled)


def test_where_nobody_comes_back_there_is_no_time_away() -> None:
    modelled = {name: rolled(np.ones((2, USERS)), away=2.0) for name in (LOGGING_POLICY, "a")}
    modelled["b"] = rolled(np.ones((2, USERS)), away=float("nan"))
    records = {record.subject: record for record in model_scores(request(), "depth", modelled).records(seed=0)}
    assert (records["a"].mean_revisit_hours, records["b"].mean_revisit_hours) == (2.0, None)
    assert records["b"].mean_depth == 1.0


def test_a_roll_out_that_ends_before_support_can_be_seen_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.requests.*greater than 24"):
        parse(EvaluateSettings, {"model": {"requests": 24}}, "evaluate")


def test_models_that_disagree_widen_all_intervals_by_the_same_share_of_the_gain() -> None:
    gains = np.array([[1.0, 0.2], [2.0, 0.4]])
    both = np.ones(2)
    assert disagreement(gains, both) == pytest.approx(1.96 * np.sqrt((0.5 + 0.02) / (1.5**2 + 0.3**2)))
    assert disagreement(10 * gains, both) == pytest.approx(disagreement(gains, both))
    assert disagreement(np.array([[1.0], [1.0]]), np.ones(1)) == 0.0
    assert disagreement(np.zeros((2, 3)), np.ones(3)) == 0.0


def test_models_may_disagree_on_a_subject_without_support() -> None:
    gains = np.array([[1.0, -3.0], [1.2, 3.0], [0.8, 0.5], [1.0, 1.0]])
    of_first = 1.96 * np.sqrt(np.var([1.0, 1.2, 0.8, 1.0], ddof=1))
    assert disagreement(gains, np.array([0.9, 0.0])) == pytest.approx(of_first)
    assert disagreement(gains, np.array([0.9, 0.5])) > 2 * of_first
