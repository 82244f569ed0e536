"""The rule of docs/evaluation.md by cases, and its invariants for any figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import made_record

from prefrec_ray.evaluation.results.records import (
    Evaluation,
    GuardRailRecord,
    PolicyVerdict,
    Record,
    ServedItems,
    SpecificationRecord,
    Support,
    read_evaluation,
    write_evaluation,
)
from prefrec_ray.evaluation.results.rules import RULES, deciding
from prefrec_ray.evaluation.results.verdict import VERDICTS, case_of, verdicts

SURE = Support(states=0.82, ess=0.31)
LOST = Support(states=0.12, ess=0.02)


def line(subject: str, gain: float, role: str = "policy", half: float = 0.1, **changes: object) -> Record:
    """A record of the model with the logging policy at 1.0 and the gain +- `half`."""
    paired = {"gain_ci_low": gain - half, "gain_ci_high": gain + half}
    return made_record(subject, 1 + gain, role, **{"half": half, "estimator": "model", **paired, **changes})


def one(*records: Record, support: Support | None = SURE, **served: ServedItems) -> PolicyVerdict:
    """The verdict on the policy p."""
    known = {} if support is None else {"p": support}
    return verdicts(Evaluation(records=with_control(*records), support=known, served=served))["p"]


def with_control(*records: Record) -> tuple[Record, ...]:
    """Add random items without a gain for each estimator and task, unless a negative control is among the records."""
    if any(record.role == "placebo" for record in records):
        return records
    controls = {(r.estimator, r.task): len(r.gains_by_model) for r in records if r.role == "policy"}
    return records + tuple(
        line("random items", 0.0, "placebo", estimator=name, task=task, gains_by_model=(0.0,) * models)
        for (name, task), models in controls.items()
    )


def test_a_verdict_names_what_every_model_of_users_misses() -> None:
    missed = SpecificationRecord(model="means", r2=0.012, largest_control=0.001, feature="hour of the day")
    passed = SpecificationRecord(model="counts", r2=0.0005, largest_control=0.001)
    worse = missed.model_copy(update={"r2": 0.03, "feature": "number of the impression"})

    def judged(error: float, *tests: SpecificationRecord, half: float = 0.1) -> PolicyVerdict:
        """Judge a gain of .4 whose interval contains `error`, and `half` for the users."""
        found = {"relative_error": error / 0.4, "specification_error": error}
        record = line("p", 0.4, half=math.hypot(half, error), settings=found)
        return verdicts(Evaluation(records=with_control(record), specification=tests))["p"]

    for error, half, verdict in ((0.1, 0.1, "candidate"), (0.5, 0.1, "inconclusive"), (0.1, 0.5, "inconclusive")):
        named = judged(error, worse, missed, half=half)
        assert named.verdict == verdict
        reason = (
            "their error depends on the hour of the day (R2 0.0120; at most 0.0010 in simulations without an error)"
        )
        assert any(f"{reason}. It accounts for up to {error:.2f} levels" in text for text in named.reasons)
    assert "their error depends" not in " ".join(judged(0.1, missed, passed).reasons)


def test_pages_unlike_all_logged_pages_are_inconclusive() -> None:
    served = serving([0.05] * 20, 40)
    assert one(line("p", 0.4), support=SURE.model_copy(update={"composition": 0.5}), p=served).verdict == "candidate"
    unlike = one(line("p", 0.4), support=SURE.model_copy(update={"composition": 0.04}), p=served)
    assert unlike.verdict == "inconclusive"
    assert lights(unlike)["catalogue"] == (
        "red",
        "40 items; 10 items take 50% of impressions; most pages are unlike the log's",
    )
    assert unlike.reasons[0].startswith("Only 4% of its pages have at most as many items of one kind as 99 % of logged")


def lights(policy_verdict: PolicyVerdict) -> dict[str, tuple[str, str]]:
    return {light.name: (light.colour, light.number) for light in policy_verdict.lights}


def serving(shares: list[float], distinct: int) -> ServedItems:
    top = [{"item_id": i, "share": share} for i, share in enumerate(shares)]
    return ServedItems(requests=1000, distinct_items=distinct, top_items=top)


@pytest.mark.parametrize(
    ("gain", "verdict", "colour"),
    [
        (-0.4, "do_not_ship", "red"),
        (-0.101, "do_not_ship", "red"),  # all of [-0.201, -0.001] is below 0
        (-0.099, "inconclusive", "amber"),
        (0.0, "no_difference", "amber"),
        (0.099, "inconclusive", "amber"),
        (0.101, "candidate", "green"),
        (0.4, "candidate", "green"),
    ],
)
def test_the_interval_of_the_gain_decides(gain: float, verdict: str, colour: str) -> None:
    policy_verdict = one(line("p", gain))
    assert policy_verdict.verdict == verdict
    assert lights(policy_verdict)["value"][0] == colour


@pytest.mark.parametrize(
    ("gain", "half", "difference", "verdict"),
    [
        (0.12, 4.87, 0.1, "inconclusive"),
        (0.46, 3.75, 0.1, "inconclusive"),
        (0.0, 0.11, 0.1, "inconclusive"),
        (0.0, 0.11, 0.12, "no_difference"),
        (0.02, 0.07, 0.1, "no_difference"),
        (0.05, 0.04, 0.1, "no_difference"),  # a gain, but too small to matter
        (0.05, 0.04, 0.08, "candidate"),
        (-0.05, 0.04, 0.1, "do_not_ship"),
    ],
)
def test_only_an_interval_within_the_difference_that_matters_shows_no_difference(
    gain: float, half: float, difference: float, verdict: str
) -> None:
    record = line("p", gain, half=half, ci_low=0.5, ci_high=1.5, reaches_end=False)
    evaluation = Evaluation(records=with_control(record), difference=difference)
    found = verdicts(evaluation)["p"]
    assert found.verdict == verdict
    if -half < gain < half:
        assert f"the difference that matters, {difference:g} levels" in found.reasons[0]


@given(gain=st.floats(-1, 1), half=st.floats(0.001, 2), difference=st.floats(0.01, 1))
def test_no_difference_is_never_said_of_an_interval_that_allows_one(
    gain: float, half: float, difference: float
) -> None:
    record = line("p", gain, half=half, ci_low=0.5, ci_high=1.5, reaches_end=False)
    evaluation = Evaluation(records=with_control(record), difference=difference)
    if verdicts(evaluation)["p"].verdict == "no_difference":
        assert max(abs(record.gain_ci_low), abs(record.gain_ci_high)) <= difference


def by_models(gain: float, of_users: float, *gains: float) -> Record:
    """Return a record by models with these gains, of which no estimate has the error of a back-test."""
    of_kinds = 3.18244631 * math.sqrt(1.25)  # Student's t of three degrees of freedom, four models
    half = math.hypot(of_users, of_kinds * np.std(gains, ddof=1))
    return line("p", gain, half=half).model_copy(update={"gains_by_model": gains, "reaches_end": False})


def test_a_gain_on_which_models_of_users_disagree_is_inconclusive() -> None:
    policy_verdict = one(by_models(0.9, 0.1, 0.1, 0.7, 1.0, 1.8), support=LOST)
    assert policy_verdict.verdict == "inconclusive"
    assert "; models of users disagree (+0.10 to +1.80): " in policy_verdict.reasons[0]
    assert "+0.10 to +1.80 by model of users" in lights(policy_verdict)["value"][1].split("; ")
    # Without a gain before this error, more users may decide.
    unsure = one(by_models(0.05, 0.1, -0.4, -0.1, 0.2, 0.5), support=LOST)
    assert unsure.verdict == "inconclusive"
    assert "disagree" not in unsure.reasons[0]


@pytest.mark.parametrize("support", [SURE, LOST, None])
def test_support_does_not_decide(support: Support | None) -> None:
    """Coverage of intervals does not depend on it; the disagreement of models decides."""
    assert one(by_models(0.9, 0.1, 0.8, 0.9, 0.9, 1.0), support=support).verdict == "candidate"
    assert one(by_models(0.9, 0.1, 0.1, 0.7, 1.0, 1.8), support=support).verdict == "inconclusive"
    assert one(line("p", -0.5), support=support).verdict == "do_not_ship"


def test_a_loss_on_which_models_of_users_disagree_is_inconclusive() -> None:
    policy_verdict = one(by_models(-0.9, 0.1, -0.1, -0.7, -1.0, -1.8), support=LOST)
    assert policy_verdict.verdict == "inconclusive"
    assert "; models of users disagree (-1.80 to -0.10)" in policy_verdict.reasons[0]
    # Without a loss before this error, more users may decide.
    assert "disagree" not in one(by_models(-0.05, 0.1, 0.4, 0.1, -0.2, -0.5), support=LOST).reasons[0]


def test_a_gain_not_above_the_error_of_the_model_is_inconclusive_whatever_else_is_known() -> None:
    """The lines of the table in docs/evaluation.md are in this order."""
    missed = line("p", 0.4, settings={"logged_level": 1.5})  # the logging policy's level is estimated as 1
    control = line("random items", 0.35, "placebo")
    worse = missed.model_copy(update={"gain_over_current": -0.7, "gain_over_current_ci": (-0.9, -0.6)})
    for records in ((missed,), (missed, control), (worse,)):
        policy_verdict = one(*records)
        assert policy_verdict.verdict == "inconclusive"
        assert policy_verdict.reasons[0].endswith("The model's error on the level of the logged items is 0.50.")


def test_a_policy_is_above_each_control_in_each_model_of_users() -> None:
    policy = by_models(1.9, 0.3, 1.8, 1.9, 1.9, 2.0)
    control = line("random items", 0.4, "placebo")

    def beside(*gains: float, name: str = "random items") -> PolicyVerdict:
        other = line(name, sum(gains) / 4, "placebo").model_copy(update={"gains_by_model": gains})
        least = control.model_copy(update={"gains_by_model": (0.3, 0.4, 0.4, 0.5)})
        return one(policy, *([least] if name != "random items" else []), other, support=SURE)

    assert beside(-1.4, 0.2, 0.9, 1.9).verdict == "candidate"  # these models disagree on the control only
    for name in ("random items", "constant action"):  # the largest control, or one of two
        policy_verdict = beside(-1.4, 0.2, 0.5, 2.1, name=name)
        assert policy_verdict.verdict == "inconclusive"
        assert policy_verdict.reasons[0].endswith("; in a model of users a negative control gains as much.")
        assert lights(policy_verdict)["controls"][0] == "amber"
    assert "(random items) gains +1.80" in beside(0.4, 1.9, 2.2, 2.7).reasons[0]  # within the users' .3


def test_controls_of_another_number_of_models_are_not_compared() -> None:
    """A report joins evaluations, which may have other numbers of models."""
    policy = by_models(0.9, 0.1, 0.8, 0.9, 0.9, 1.0)
    control = line("random items", 0.3, "placebo").model_copy(update={"gains_by_model": (0.2, 0.3, 0.4)})
    joined = verdicts(Evaluation(records=(policy, control), support={"p": SURE}))["p"]
    assert joined.verdict == "inconclusive"
    assert joined.reasons[0].endswith("above 0, but no negative control was scored.")
    assert lights(joined)["controls"] == ("grey", "none scored")


def rail(status: str, change: float = -0.05) -> GuardRailRecord:
    """`feedback.like >= -2 %` with a change from 0.4 likes, and an interval of -1 % to 1 % around it."""
    over = 0.4 * (change + 0.02)
    return GuardRailRecord(
        rail="feedback.like >= -2 %",
        value=0.4 * (1 + change),
        allowed=0.392,
        low=over - 0.004,
        high=over + 0.004,
        status=status,
    )


def with_rails(*rails: GuardRailRecord, gain: float = 0.4, **changes: object) -> PolicyVerdict:
    records = with_control(line("p", gain, **changes))
    return verdicts(Evaluation(records=records, support={"p": SURE}, guard_rails={"p": rails}))["p"]


def test_a_policy_with_fewer_likes_is_a_candidate_only_without_the_guard_rail() -> None:
    assert with_rails().verdict == "candidate"
    kept = with_rails(rail("kept", change=0.01))
    assert kept.verdict == "candidate"
    assert "It keeps the guard-rails feedback.like >= -2 %." in kept.reasons[0]
    broken = with_rails(rail("kept", change=0.01), rail("broken"))
    assert broken.verdict == "do_not_ship"
    assert broken.reasons == ("Guard-rail broken: feedback.like >= -2 %: -5.0 % [-6.0, -4.0].",)
    undecided = with_rails(rail("open", change=-0.015))
    assert undecided.verdict == "inconclusive"
    assert undecided.reasons[0].endswith("Guard-rail open: feedback.like >= -2 %: -1.5 % [-2.5, -0.5].")


@pytest.mark.parametrize(("gain", "without"), [(0.4, "candidate"), (0.0, "no_difference"), (-0.4, "do_not_ship")])
def test_a_guard_rail_never_improves_a_verdict(gain: float, without: str) -> None:
    order = list(VERDICTS)
    assert with_rails(gain=gain).verdict == without
    for status in ("kept", "open", "broken"):
        assert order.index(with_rails(rail(status), gain=gain).verdict) >= order.index(without)
    # An open guard-rail matters only to a policy that would be a candidate.
    assert with_rails(rail("open"), gain=0.0).verdict == "no_difference"


@pytest.mark.parametrize(
    ("interval", "miss", "verdict"),
    [
        ((-0.1, 0.2), 0.0, "candidate"),
        ((-0.45, 0.05), 0.0, "inconclusive"),
        ((-0.11, 0.09), 0.0, "inconclusive"),  # mostly negative: the estimate is below 0
        ((-0.3, -0.1), 0.0, "do_not_ship"),
        ((-0.3, -0.1), 0.15, "inconclusive"),
        ((-0.3, -0.1), 0.05, "do_not_ship"),
    ],
)
def test_a_policy_below_the_current_one_is_no_candidate(
    interval: tuple[float, float], miss: float, verdict: str
) -> None:
    over = {"gain_over_current": sum(interval) / 2, "gain_over_current_ci": interval}
    found = with_rails(settings={"logged_level": 1.0 + miss}, **over)
    assert found.verdict == verdict
    low, high = interval
    text = f"Gain over the current policy: {sum(interval) / 2:+.2f} [{low:+.2f}, {high:+.2f}] levels"
    assert text in found.reasons[0]


@pytest.mark.parametrize(("states", "said"), [(0.7975, "79%"), (0.8, "80%"), (0.29, "29%"), (1.0, "100%"), (0.0, "0%")])
def test_a_support_is_not_rounded_up(states: float, said: str) -> None:
    assert Support(states=states).text == said


def test_a_gain_that_those_who_know_nothing_have_too_is_none() -> None:
    for blind in ("random items", "constant action", "shuffled:imitation", "shuffled:p"):
        by = "dr" if blind == "shuffled:p" else "model"
        lines = (line("p", 0.4), line(blind, 0.3, "placebo"), line(f"{blind} of another", 3.0, "placebo"))
        policy_verdict = one(*(record.model_copy(update={"estimator": by}) for record in lines))
        assert policy_verdict.verdict == "inconclusive"
        name = {"shuffled:p": "own actions shuffled", "shuffled:imitation": "behavior cloning, actions shuffled"}.get(
            blind, blind
        )
        assert policy_verdict.reasons[0].endswith(f"; a negative control ({name}) gains +0.30.")
        assert lights(policy_verdict)["controls"][0] == "amber"
    policy_verdict = one(line("p", 0.4), line("random items", 0.29, "placebo"), line("shuffled:other", 0.9, "placebo"))
    assert policy_verdict.verdict == "candidate"
    assert lights(policy_verdict)["controls"] == ("green", "+0.29 levels; random items")
    # In a model of users a policy's items are good for other users too, which is not an error of the estimate.
    fair = line("random items", 0.0, "placebo")
    assert one(line("p", 0.4), line("shuffled:p", 0.9, "placebo"), fair).verdict == "candidate"
    assert "no negative control was scored" in one(line("p", 0.4), line("shuffled:p", 0.0, "placebo")).reasons[0]


@pytest.mark.parametrize(("gain", "verdict"), [(0.4, "inconclusive"), (0.0, "inconclusive"), (-0.4, "do_not_ship")])
def test_a_policy_that_serves_everybody_the_same_is_at_most_unknown(gain: float, verdict: str) -> None:
    few, logged = serving([0.4, 0.3, 0.2, 0.05, 0.05], 5), serving([0.002] * 20, 1000)
    policy_verdict = one(line("p", gain), p=few, behaviour=logged)
    assert policy_verdict.verdict == verdict
    assert lights(policy_verdict)["catalogue"] == ("red", "5 items; 5 items take 100% of impressions")
    if verdict == "inconclusive":
        assert policy_verdict.reasons[0].startswith("5 items take 100% of its impressions, logging policy 2%:")
    # Without repeats each of 100 requests shows another item: all users get the same ones in the same order.
    same = serving([0.01] * 20, 100).model_copy(update={"ceiling": 0.01})
    policy_verdict = one(line("p", gain), p=same, behaviour=logged)
    assert policy_verdict.verdict == verdict
    few_of = "100 items; 10 items take 10% of impressions (at most 10% is possible: users see no item twice)"
    assert lights(policy_verdict)["catalogue"] == ("red", few_of)
    # A log that is equally concentrated is not evidence against the policy.
    assert one(line("p", 0.4), p=few, behaviour=serving([0.6, 0.4], 2)).verdict == "candidate"
    assert one(line("p", 0.4), p=serving([0.05] * 20, 40), behaviour=logged).verdict == "candidate"


@pytest.mark.parametrize(
    ("low", "high"), [(1.2, 5.0), (0.0, 0.5), (float("-inf"), 2.0), (1.2, float("nan")), (7.04, 8.85)]
)
def test_what_did_not_converge_says_nothing(low: float, high: float) -> None:
    record = line("p", 0.5).model_copy(update={"ci_low": low, "ci_high": high, "reaches_end": low <= 0 or high >= 5})
    policy_verdict = one(record)
    assert policy_verdict.verdict == "inconclusive"
    assert "reaches an end of the scale, 0 to 5" in policy_verdict.reasons[0]
    assert lights(policy_verdict)["convergence"][0] == "red"


def test_an_error_that_is_a_share_of_the_gain_may_reach_the_end_of_a_level() -> None:
    """Level 4.2 of 5: users' .2 stay below 5, with 30 % of the gain of 3.2 the interval does not."""
    half = math.hypot(0.2, 0.3 * 3.2)
    record = line("p", 3.2, half=half, ci_high=5.0, reaches_end=False, settings={"relative_error": 0.3})
    assert one(record).verdict == "candidate"
    inside = "inside the scale before the errors of models are added, 0 to 5"
    assert lights(one(record))["convergence"] == ("green", f"level 3.22 to 5.00; {inside}")
    assert "has not converged" in one(record.model_copy(update={"reaches_end": True})).reasons[0]


def test_ncis_alone_never_makes_a_candidate() -> None:
    policy_verdict = one(
        line("p", 0.4, estimator="ncis"), line("length only:p", 0.3, "control", estimator="ncis"), support=None
    )
    assert policy_verdict.verdict == "inconclusive"
    assert (
        policy_verdict.reasons[0]
        == "Gain over the logged items by NCIS: +0.40 [+0.30, +0.50] levels. NCIS ranks policies; the size of its "
        "gains is biased, and 75% of the gain is explained by session length only."
    )
    assert one(line("p", 0.4, estimator="ncis"), support=SURE).verdict == "inconclusive"
    assert one(line("p", 0.0, estimator="ncis"), support=None).verdict == "no_difference"
    assert one(line("p", -0.4, estimator="ncis"), support=None).verdict == "do_not_ship"


def test_ncis_warns_of_a_policy_only_where_it_is_below_all_that_know_nothing() -> None:
    """Sessions weigh otherwise under any policy that acts otherwise: by NCIS random items lose, too."""
    policy = line("p", -0.4, estimator="ncis")
    above, below = (line("random items", gain, "placebo", estimator="ncis") for gain in (-0.1, -0.35))
    assert one(policy, above, support=None).verdict == "do_not_ship"
    policy_verdict = one(policy, line("constant action", 0.1, "placebo", estimator="ncis"), below, support=None)
    assert policy_verdict.verdict == "inconclusive"
    assert one(line("p", -0.4), line("random items", -0.35, "placebo")).verdict == "do_not_ship"


@pytest.mark.parametrize("support", [SURE, None])
def test_only_a_model_of_users_makes_a_candidate(support: Support | None) -> None:
    found = one(line("p", 0.4, estimator="dr"), support=support)
    assert found.verdict == "inconclusive"
    assert found.reasons[0].endswith("Only a model of users follows a policy for hours.")


def test_a_control_is_needed() -> None:
    found = verdicts(Evaluation(records=(line("p", 0.4),), support={"p": SURE}))["p"]
    assert found.verdict == "inconclusive"
    assert found.reasons[0].endswith("no negative control was scored.")


def many(count: int, gain: float, half: float = 0.1, models: tuple[float, ...] = ()) -> Evaluation:
    """Evaluate `count` equal policies."""
    policies = [line(f"p{i}", gain, half=half).model_copy(update={"gains_by_model": models}) for i in range(count)]
    return Evaluation(records=with_control(*policies))


def test_intervals_of_several_policies_hold_together() -> None:
    """Bonferroni: of 20 policies the normal quantile is 3.023 instead of 1.960."""
    for count, factor in ((1, 1.0), (5, 2.5758 / 1.96), (20, 3.0233 / 1.96)):
        for gain, verdict in ((0.1 * factor + 0.001, "candidate"), (0.1 * factor - 0.001, "inconclusive")):
            assert {one.verdict for one in verdicts(many(count, gain)).values()} == {verdict}
    found = verdicts(many(20, 0.12))["p3"]
    assert found.reasons[0].endswith("its lower end is -0.03 if the intervals of 20 policies are to hold together.")
    assert "(also if the intervals of 5 policies are to hold together)" in verdicts(many(5, 0.2))["p3"].reasons[0]


def test_errors_of_models_of_several_policies_hold_together() -> None:
    """The disagreement of four models has Student's t of three degrees of freedom: 5.841 for 5 policies."""
    gains = (0.9, 1.0, 1.0, 1.1)
    deviation = np.std(gains, ddof=1) * math.sqrt(1.25)
    evaluation = many(5, 1.0, half=3.18244631 * deviation, models=gains)
    assert case_of(evaluation, "p0").lowest == pytest.approx(1.0 - 5.84090931 * deviation)


def test_policies_without_a_gain_are_rarely_candidates() -> None:
    """Of 20 policies with independent errors one or more is a candidate in 2.5 % of evaluations: the upper sides."""
    rng = np.random.default_rng(0)
    evaluations = 400
    found = 0
    for gains in rng.normal(0, 0.1 / 1.96, (evaluations, 20)):
        records = (line("random items", -0.9, "placebo"), *(line(f"p{i}", gain) for i, gain in enumerate(gains)))
        found += any(
            deciding(case_of(Evaluation(records=records, difference=0.001), f"p{i}")).verdict == "candidate"
            for i in range(20)
        )
    assert found / evaluations < 0.05


def test_the_model_goes_before_dr_before_ncis_and_the_truth_never_decides() -> None:
    records = [line("p", gain, estimator=name) for name, gain in (("ncis", 0.4), ("dr", 0.0), ("model", -0.4))]
    assert one(*records).verdict == "do_not_ship"
    assert one(*records[:2]).verdict == "no_difference"  # by dr
    assert one(line("p", 0.4, estimator="online")).verdict == "inconclusive"
    assert one(line("p", 0.4, estimator="fqe")).reasons == ("No estimate by model, dr, ncis.",)


def test_the_numbers_are_in_the_users_own_units() -> None:
    changed = {"mean_depth": 7.25, "mean_revisit_hours": 18.2}
    logging = line("behaviour", 0.0, "control", mean_depth=6.0, mean_revisit_hours=21.0)
    policy_verdict = one(line("p", 0.4, **changed), logging)
    assert lights(policy_verdict)["value"][1] == (
        "+0.40 [+0.30, +0.50] levels; 18.2 h to the next session (logged items 21.0); "
        "7.2 impressions per session (logged items 6.0)"
    )
    assert lights(one(line("p", 0.4, **changed)))["value"][1].endswith(
        "18.2 h to the next session; 7.2 impressions per session"
    )


@pytest.mark.parametrize(
    ("task", "own", "reason"),
    [
        ("depth", {"mean_depth": 9.0, "mean_revisit_hours": 25.1}, "But 25.1 h to the next session instead of 20.0"),
        ("depth", {"mean_depth": 9.0, "mean_revisit_hours": 24.9}, None),
        ("frequency", {"mean_depth": 4.4, "mean_revisit_hours": 9.0}, "But 4.4 impressions per session instead of 6.0"),
        ("frequency", {"mean_depth": 4.6, "mean_revisit_hours": 90.0}, None),
        ("mixture", {"mean_depth": 6.0, "mean_revisit_hours": 20.0}, None),
        ("mixture", {"mean_depth": 5.5, "mean_revisit_hours": 22.0}, None),  # 8 % less, 9 % less often
        (
            "mixture",
            {"mean_depth": 1.0, "mean_revisit_hours": 90.0},
            "But 90.0 h to the next session instead of 20.0 and 1.0 impressions per session instead of 6.0",
        ),
        ("mixture", {"mean_depth": 5.3, "mean_revisit_hours": 9.0}, "But 5.3 impressions per session instead of 6.0"),
        ("mixture", {"mean_depth": 9.0, "mean_revisit_hours": 22.3}, "But 22.3 h to the next session instead of 20.0"),
        ("mixture", {"mean_depth": 5.3, "mean_depth_ci": (5.1, 5.5), "mean_revisit_hours": 9.0}, None),
        ("mixture", {"mean_depth": 9.0, "mean_revisit_hours": 25.0, "mean_revisit_hours_ci": (22.0, 28.0)}, None),
    ],
)
def test_a_gain_that_the_other_measure_pays_for_is_no_candidate(
    task: str, own: dict[str, float], reason: str | None
) -> None:
    logging = line("behaviour", 0.0, "control", task=task, mean_depth=6.0, mean_revisit_hours=20.0)
    policy_verdict = one(line("p", 0.4, task=task, **own), logging)
    assert policy_verdict.verdict == ("candidate" if reason is None else "inconclusive")
    assert reason is None or f"{reason}: only you can decide" in policy_verdict.reasons[0]


def test_the_best_comes_first_and_controls_have_no_verdict() -> None:
    records = [
        *(line(name, gain) for name, gain in (("bad", -0.5), ("same", 0.0), ("good", 0.4), ("better", 0.6))),
        line("imitation", 0.0, "control"),
        line("shuffled:good", 0.0, "placebo"),
        line("online only", 2.0, estimator="online"),
    ]
    sure = dict.fromkeys(["bad", "same", "good", "better", "imitation", "random items"], SURE)
    evaluation = Evaluation(records=(*records, line("random items", 0.0, "placebo")), support={**sure, "lost": LOST})
    assert list(verdicts(evaluation)) == ["better", "good", "same", "online only", "lost", "bad"]
    assert case_of(evaluation, "lost").record is None


def test_of_several_tasks_the_least_favourable_verdict_counts() -> None:
    records = [line("p", 0.4), line("p", -0.4, task="frequency")]
    assert one(*records).verdict == one(*reversed(records)).verdict == "do_not_ship"


def test_verdicts_and_support_are_written_and_read(tmp_path: Path) -> None:
    records = (line("p", 0.4), line("random items", 0.1, "placebo"))
    evaluation = Evaluation(records=records, support={"p": SURE, "lost": LOST})
    evaluation = evaluation.model_copy(update={"verdicts": verdicts(evaluation)})
    file = str(tmp_path / "evaluation.json")
    write_evaluation(file, evaluation)
    assert read_evaluation(file) == evaluation
    content = json.loads(Path(file).read_text())
    assert content["support"]["lost"] == {"states": 0.12, "ess": 0.02}
    assert list(content["verdicts"]) == ["p", "lost"]
    policy_verdict = content["verdicts"]["p"]
    assert list(policy_verdict) == ["verdict", "reasons", "lights"]
    assert policy_verdict["verdict"] == "candidate"
    assert all(isinstance(reason, str) for reason in policy_verdict["reasons"])
    assert [light["name"] for light in policy_verdict["lights"]] == [
        "value",
        "catalogue",
        "controls",
        "convergence",
    ]


@pytest.mark.parametrize(
    ("logged", "verdict", "word"),
    [
        (1.0, "candidate", "above 0"),
        (0.85, "candidate", "above 0"),  # the gain is .3 at least
        (0.55, "inconclusive", "error on the level of the logged items is 0.45"),
        (1.45, "inconclusive", "error on the level of the logged items is 0.45"),
    ],
)
def test_a_model_that_misses_the_logging_policy_by_more_than_the_gain_is_no_evidence(
    logged: float, verdict: str, word: str
) -> None:
    policy_verdict = one(line("p", 0.4, settings={"logged_level": logged}))
    assert policy_verdict.verdict == verdict
    assert word in policy_verdict.reasons[0]
    loss = one(line("p", -0.4, settings={"logged_level": logged}))
    assert loss.verdict == ("do_not_ship" if verdict == "candidate" else "inconclusive")


def test_a_gain_is_larger_than_what_the_model_is_seen_to_err() -> None:
    policy_verdict = one(line("p", 0.25, settings={"logged_level": 0.84}))  # .15 to .35
    assert policy_verdict.verdict == "inconclusive"
    assert policy_verdict.reasons[0].endswith("The model's error on the level of the logged items is 0.16.")
    assert one(line("p", 0.25, settings={"logged_level": 0.86})).verdict == "candidate"


LEVELS = st.floats(-1, 6)
GAINS = st.floats(-5, 5)


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    """Two policies with any figures, by any estimators, and any controls."""
    records = []
    for subject, role in (("p", "policy"), ("q", "policy"), ("random items", "placebo"), ("shuffled:p", "placebo")):
        for estimator in draw(st.sets(st.sampled_from(["model", "dr", "ncis", "fqe", "online"]))):
            value = draw(st.floats(0, 5))
            low, high = min(value, draw(LEVELS)), max(value, draw(LEVELS))
            gain_low, gain_high = sorted(draw(st.tuples(GAINS, GAINS)))
            intervals = {"ci_low": low, "ci_high": high, "gain_ci_low": gain_low, "gain_ci_high": gain_high}
            records.append(made_record(subject, value, role, estimator=estimator, **intervals))
    supports = st.builds(Support, states=st.floats(0, 1), ess=st.none())
    return Evaluation(records=records, support=draw(st.dictionaries(st.sampled_from(["p", "q"]), supports)))


@given(evaluations())
def test_never_a_candidate_where_the_log_cannot_carry_it(evaluation: Evaluation) -> None:
    for name, policy_verdict in verdicts(evaluation).items():
        assert policy_verdict.verdict in VERDICTS
        assert policy_verdict.reasons
        assert len(policy_verdict.lights) == 4
        if policy_verdict.verdict != "candidate":
            continue
        record = case_of(evaluation, name).record
        assert record is not None
        assert record.estimator == "model"
        assert not case_of(evaluation, name).undetermined
        low, _ = record.gain_interval
        assert low > 0
        assert record.ci_low > 0
        assert record.ci_high < 5
        blind = [
            r.gain
            for r in evaluation.records
            if r.estimator == record.estimator
            and r.subject in ("random items", *([] if r.estimator == "model" else [f"shuffled:{name}"]))
        ]
        assert blind
        assert all(low > gain for gain in blind)
        assert {light.name: light.colour for light in policy_verdict.lights}["value"] == "green"


def above(policy: Record, control: Record) -> bool:
    evaluation = Evaluation(records=(policy, control.model_copy(update={"subject": "random items", "role": "placebo"})))
    return case_of(evaluation, "p").above_control


def test_an_error_that_is_a_share_of_gains_is_a_share_of_their_difference() -> None:
    def record(gain: float, half: float, error: float) -> Record:
        return line("p", gain, half=half, settings={"relative_error": error} if error else {})

    half = math.hypot(0.1, 0.3 * 1.0)  # of users .1, of the model .3 of the gain
    assert above(record(1.0, half, 0.3), record(0.8, 0.1, 0.3))  # .2 against hypot(.1, .06)
    assert not above(record(1.0, half, 0.3), record(0.9, 0.1, 0.3))
    assert not above(record(1.0, half, 0.0), record(0.8, 0.1, 0.0))  # the interval is all there is
    assert above(record(1.0, 0.1, 0.0), record(0.8, 0.1, 0.0))


def test_models_that_disagree_on_two_gains_may_agree_on_their_difference() -> None:
    assert above(by_models(0.9, 0.1, 0.4, 0.8, 1.0, 1.4), by_models(0.5, 0.1, 0.0, 0.4, 0.6, 1.0))


def test_the_rules_are_total_and_the_last_one_is_the_candidate() -> None:
    assert [rule.verdict for rule in RULES].index("candidate") == len(RULES) - 1
    assert {rule.verdict for rule in RULES} == set(VERDICTS)
