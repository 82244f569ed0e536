"""Records of the estimator `model`, from roll-outs that are written down here."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators import model
from prefrec_ray.evaluation.estimators.model import model_scores
from prefrec_ray.evaluation.estimators.subject_roll_outs import Modelled, together
from prefrec_ray.evaluation.results.names import LOGGING_POLICY, Subject
from prefrec_ray.evaluation.results.scores import bootstrap_interval, disagreement, error_of_kinds
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.settings import parse
from prefrec_ray.users.roll_out import PARTS, Imagined

USERS = 40


def rolled(levels: np.ndarray, away: float = 1.0, logged: float = 1.0, found: float = 0.0) -> Modelled:
    """Roll-out by K models: levels [K, USERS], NaN if absent, the revisit time, and the level in the log.

    `found`: change of the levels in the first model if the error that its specification test found is added.
    """
    ones = np.ones_like(levels)
    imagined = Imagined(
        levels={"depth": levels},
        parts={"depth": np.repeat(levels[:, :, None], PARTS, axis=2)},
        depth=ones,
        revisit_hours=away * ones,
        inputs=np.zeros((0, levels.size, 3), np.float32),
        part=np.zeros(0, np.int64),
        counts=np.zeros(1, np.int64),
        sessions=10,
        rows=np.zeros((*levels.shape, 1), np.int32),
        feedback=ones[:, :, None],
        daily_sessions=away * ones,
    )
    corrected, of_log = levels + found * np.eye(len(levels))[:, :1], np.full(USERS, logged)
    histories, by_part = np.zeros((USERS, PARTS, 3), np.float32), np.repeat(of_log[:, None], PARTS, axis=1)
    return Modelled(imagined, 1.0, histories, {"depth": of_log}, {"depth": by_part}, {"depth": corrected})


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
    for name, record in records.items():
        values, gains = kept[name].mean(axis=0), (kept[name] - kept[LOGGING_POLICY]).mean(axis=1)
        assert record.gains_by_model == pytest.approx(gains)
        assert record.value == pytest.approx(values.mean())
        for of, low, high in (
            (kept[name], record.ci_low, record.ci_high),
            (kept[name] - kept[LOGGING_POLICY], record.gain_ci_low, record.gain_ci_high),
        ):
            drawn = bootstrap_interval(of.mean(axis=0)[:, None], 0)
            mean, spread = of.mean(), gains.std(ddof=1)
            error = 12.7062047 * spread * np.sqrt(1.5)  # of the gain: a level's is the same
            assert low == pytest.approx(mean - np.hypot(mean - drawn[0][0], error))
            assert high == pytest.approx(mean + np.hypot(drawn[1][0] - mean, error))
            assert low <= mean <= high
    assert (records["a"].users, records["a"].users_left_out) == (25, 15)


@pytest.mark.parametrize(("found", "of_logging", "error"), [(0.0, 0.0, 0.0), (0.3, 0.0, 0.15), (-0.5, -0.1, 0.2)])
def test_an_interval_contains_the_error_that_specification_tests_find(
    found: float, of_logging: float, error: float
) -> None:
    """One of two models is rejected. The error is the change of its gain, halved by the other model."""
    rolls = {
        LOGGING_POLICY: rolled(np.full((2, USERS), 1.0), found=of_logging),
        "a": rolled(np.full((2, USERS), 1.5), found=found),
        "b": rolled(np.full((2, USERS), 1.2)),
    }
    record = next(r for r in model_scores(request(), "depth", rolls).records(seed=0) if r.subject == "a")
    assert record.settings["specification_error"] == pytest.approx(error)
    assert (record.gain_ci_low, record.gain_ci_high) == pytest.approx((0.5 - error, 0.5 + error))


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


def test_a_subject_on_which_models_disagree_has_a_wider_interval_than_others() -> None:
    agreed = {name: np.full((2, USERS), level) for name, level in ((LOGGING_POLICY, 1.0), ("a", 1.5), ("b", 1.5))}
    agreed["b"] += np.array([[-0.1], [0.1]])
    records = model_scores(request(), "depth", {name: rolled(levels) for name, levels in agreed.items()}).records(
        seed=0
    )
    halves = {record.subject: record.gain - record.gain_interval[0] for record in records}
    assert halves["a"] == pytest.approx(0.0)
    of_mean = 12.7062 * 0.1  # Student's t of one degree of freedom, standard error .1
    assert halves["b"] == pytest.approx(of_mean * np.sqrt(3), rel=1e-4)  # of a further draw


def test_a_truth_from_the_distribution_of_models_is_within_their_interval() -> None:
    """Few values show their deviation badly: with the normal quantile, four models would miss 11 % instead of 5 %."""
    rng = np.random.default_rng(0)
    for count in (2, 4, 400):
        models, truth = rng.normal(2.0, 0.3, (count, 20_000)), rng.normal(2.0, 0.3, 20_000)
        outside = abs(truth - models.mean(axis=0)) > error_of_kinds(models)
        assert outside.mean() == pytest.approx(0.05, abs=0.007)
    assert error_of_kinds(np.ones((1, 3))).tolist() == [0.0, 0.0, 0.0]
    # Guard-rails choose how often they may be missed: t of three degrees of freedom at 10 % on both sides.
    assert disagreement(np.array([-1.5, -0.5, 0.5, 1.5]), 0.2) == pytest.approx(1.63774 * np.sqrt(5 / 3), rel=1e-5)


def test_an_interval_contains_196_deviations_of_the_error_that_a_backtest_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its deviation is .2 levels for both policies. Models agree, and no specification test finds an error."""
    monkeypatch.setattr(model, "backtest_error", lambda *_: 0.2)
    rolls = {name: rolled(np.full((2, USERS), mean)) for name, mean in ((LOGGING_POLICY, 1.0), ("a", 1.5), ("b", 0.9))}
    records = {record.subject: record for record in model_scores(request(), "depth", rolls).records(seed=0)}
    for name, gain in (("a", 0.5), ("b", -0.1)):
        assert records[name].settings["backtest_error"] == 0.2
        assert records[name].gain_ci_high - gain == pytest.approx(1.96 * 0.2, rel=1e-3)
        assert gain - records[name].gain_ci_low == pytest.approx(1.96 * 0.2, rel=1e-3)
