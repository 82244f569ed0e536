"""The verdict on each policy, from its support, its interval and its controls (docs/evaluation.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.case import FEW_ITEMS, OWN_UNITS, Case, of_users
from prefrec_ray.evaluation.results.names import LOGGING_POLICY, is_control, length_only
from prefrec_ray.evaluation.results.records import Evaluation, Light, PolicyVerdict, Record, ServedItems

Verdict = Literal["candidate", "no_difference", "inconclusive", "do_not_ship"]

#: Verdict -> title, best first.
VERDICTS: dict[Verdict, str] = {
    "candidate": "candidate for an A/B test",
    "no_difference": "no difference to be seen",
    "inconclusive": "inconclusive",
    "do_not_ship": "do not ship",
}
#: Estimators of verdicts: the first one with a record is used. `online` is the truth, and `fqe` has no correction.
ESTIMATORS = {"model": "a model of the users", "dr": "doubly robust", "ncis": "NCIS"}


def verdicts(evaluation: Evaluation) -> dict[str, PolicyVerdict]:
    """Return the verdict on every policy that has a record or a support, best first.

    The verdict on a policy with several tasks is its least favorable one.
    """
    return best_first(evaluation, {name: decide(case_of(evaluation, name)) for name in _policies(evaluation)})


def best_first(evaluation: Evaluation, by_policy: Mapping[str, PolicyVerdict]) -> dict[str, PolicyVerdict]:
    """Sort verdicts by the order of `VERDICTS`, then by gain, largest first."""
    order = list(VERDICTS)

    def rank(name: str) -> tuple[int, float]:
        record = case_of(evaluation, name).record
        return order.index(by_policy[name].verdict), -record.gain if record else math.inf

    return {name: by_policy[name] for name in sorted(by_policy, key=rank)}


def case_of(evaluation: Evaluation, policy: str) -> Case:
    """Return the inputs of the verdict on a policy."""
    support, served = evaluation.support.get(policy), evaluation.served
    bare = Case(policy, support=support, served=served.get(policy), logged=served.get(LOGGING_POLICY))
    bare = replace(bare, specification=evaluation.specification, rails=evaluation.guard_rails.get(policy, ()))
    cases = []
    for task in dict.fromkeys(record.task for record in evaluation.records if record.subject == policy):
        own = {r.estimator: r for r in evaluation.records if (r.subject, r.task) == (policy, task)}
        estimator = next((name for name in ESTIMATORS if name in own), None)
        if estimator is not None:
            cases.append(replace(bare, record=own[estimator], peers=evaluation.select(task, estimator)))
    order = list(VERDICTS)
    return max(cases, key=lambda case: order.index(decide(case).verdict), default=bare)


def decide(case: Case) -> PolicyVerdict:
    """Return the verdict by the rule, its reasons and the five lights."""
    verdict, reasons = _rule(case)
    return PolicyVerdict(verdict=verdict, reasons=(*reasons, *_misspecified(case)), lights=_lights(case))


def _rule(case: Case) -> tuple[Verdict, list[str]]:
    """Return verdict and reasons from the first line of the table in docs/evaluation.md that applies."""
    record, support = case.record, case.support
    if record is None:
        return "inconclusive", [f"No estimate by {', '.join(ESTIMATORS)}."]
    if not case.converged:
        return "inconclusive", [
            f"Its interval, {_interval(record.ci_low, record.ci_high)}, is not inside 0 to {MAX_LEVEL}, the range of a "
            "level: the estimate has not converged."
        ]
    if broken := case.rails_that_are("broken"):
        return "do_not_ship", [f"Guard-rail broken: {rail.text}." for rail in broken]
    low, high = record.gain_interval
    missed = f"The model's error on the logging policy's own level is {case.miss:.2f}."
    gain = f"Gain over the logging policy by {ESTIMATORS[record.estimator]}: {_gain(record)} levels"
    if high < 0:
        if high >= -case.miss:
            return "inconclusive", [f"{gain}, entirely below 0.", missed]
        least = case.least_control
        if record.estimator != "ncis" or least is None or high < least.gain:
            return "do_not_ship", [f"{gain}, entirely below 0."]
        knows_nothing = f"a negative control ({case.title_of(least)}) gains {least.gain:+z.2f}"
        return "inconclusive", [
            f"{gain}, entirely below 0; {knows_nothing}.",
            "NCIS ranks policies; the size of its gains is biased.",
        ]
    if 0 < low <= case.miss:
        return "inconclusive", [f"{gain}, entirely above 0.", missed]
    over, interval = _over_current(record), record.gain_over_current_ci
    if interval is not None and interval[1] < 0:
        if interval[1] >= -case.miss:
            return "inconclusive", [f"{over}, entirely below 0.", missed]
        return "do_not_ship", [f"{over}, entirely below 0."]
    if case.concentrated and case.served is not None:
        comparison = f" (logging policy: {case.logged.share_of(FEW_ITEMS):.0%})" if case.logged else ""
        effect = "the log does not show the effect on users"
        return "inconclusive", [f"{_few(case.served, 'its impressions')}{comparison}: {effect}."]
    if case.unlike_logged and support is not None:
        return "inconclusive", [
            f"Only {support.composition:.0%} of its pages have at most as many items of one kind as 99 % of logged "
            "pages: the log does not show the effect on users."
        ]
    if case.undetermined and support is not None:
        known = f"models of users disagree ({_by_model(record)}), and " if record.gains_by_model else "only "
        return "inconclusive", [
            f"{gain}; {known}{support.text} of the states that it leads users to are supported by the log. For a "
            "policy that draws its items, prefrec constrain searches for a serving rule with a clear gain.",
        ]
    if low <= 0:
        return "no_difference", [f"{gain}, an interval that contains 0."]
    control = case.control
    if control is not None and not _above(record, control):
        return "no_difference", [f"{gain}; a negative control ({case.title_of(control)}) gains {control.gain:+z.2f}."]
    if not _above_in_each(case):
        return "inconclusive", [f"{gain}; in a model of users a negative control gains as much."]
    above = f"{gain}, above 0" + (f" and every negative control ({control.gain:+z.2f} at most)" if control else "")
    if record.estimator == "ncis":
        return "inconclusive", [f"{above}.", f"NCIS ranks policies; the size of its gains is biased{_by_length(case)}."]
    if support is None:
        return "inconclusive", [f"{above}.", "Its support by the log was not measured."]
    if case.cost is not None:
        return "inconclusive", [f"{above}.", f"But {case.cost}, which a level of {record.task} does not count."]
    if undecided := case.rails_that_are("open"):
        return "inconclusive", [f"{above}.", *(f"Guard-rail open: {rail.text}." for rail in undecided)]
    return "candidate", [
        f"{above}.",
        f"{support.text} of the states that it leads users to are supported by the log.",
        *([f"{over}."] if over else []),
        *([f"It keeps the guard-rails {', '.join(rail.rail for rail in case.rails)}."] if case.rails else []),
    ]


def _over_current(record: Record) -> str:
    """Return the gain over the current policy with its interval; empty without a current policy."""
    if record.gain_over_current is None or record.gain_over_current_ci is None:
        return ""
    low, high = record.gain_over_current_ci
    return f"Gain over the current policy: {record.gain_over_current:+z.2f} [{low:+z.2f}, {high:+z.2f}] levels"


def _above(record: Record, control: Record) -> bool:
    """Return whether the policy's gain is above the control's gain by more than the error of the difference.

    Both gains are from the same models, so that errors of models apply to their difference.
    """
    lead = record.gain - control.gain
    return lead > math.hypot(of_users(record), record.number("relative_error") * lead)


def _above_in_each(case: Case) -> bool:
    """Return whether the policy gains more than every negative control in each model of users."""
    assert case.record is not None
    return all((np.subtract(case.record.gains_by_model, one.gains_by_model) > 0).all() for one in case.controls)


def _misspecified(case: Case) -> list[str]:
    """Return the finding of the specification tests, if they reject every model of users."""
    test = case.misspecified
    if test is None or case.record is None:
        return []
    return [
        f"Users of this log follow a law that no model of users has: their error depends on the {test.feature} (R2 "
        f"{test.r2:.4f}; at most {test.largest_control:.4f} in simulations without an error). It accounts for up to "
        f"{case.record.number('specification_error'):.2f} levels of the gain."
    ]


def _by_model(record: Record) -> str:
    """Return the smallest and the largest gain in any model of users."""
    return f"{min(record.gains_by_model):+z.2f} to {max(record.gains_by_model):+z.2f}"


def _by_length(case: Case) -> str:
    """Describe the share of a gain by NCIS that session length explains."""
    gains = [record.gain for record in case.peers if record.subject == length_only(case.policy)]
    share = gains[0] / case.record.gain if gains and case.record else 0.0
    return f", and {share:.0%} of the gain is explained by session length only" if share >= 0.005 else ""


def _lights(case: Case) -> tuple[Light, ...]:
    record, support, control = case.record, case.support, case.control
    lights = {
        "value": ("grey", "no value"),
        "support": ("grey", "not measured"),
        "catalogue": ("grey", "not measured"),
        "controls": ("grey", "none scored"),
        "convergence": ("grey", "no estimate"),
    }
    if record is not None:
        low, high = record.gain_interval
        colour = "green" if low > 0 else "red" if high < 0 else "amber"
        own = "; ".join([f"{_gain(record)} levels", *_own_units(case)])
        lights["value"] = (colour if case.converged else "grey", own)
        where = f" reaches an end of 0 to {MAX_LEVEL}"
        if case.converged:
            inside = record.ci_low > 0 and record.ci_high < MAX_LEVEL
            where = f", inside 0 to {MAX_LEVEL}" + ("" if inside else " before the model's own error is added")
        interval = _interval(record.ci_low, record.ci_high)
        lights["convergence"] = ("green" if case.converged else "red", interval + where)
        if control is not None:
            text = f"{control.gain:+z.2f} levels; {case.title_of(control)}"
            above = _above(record, control) and _above_in_each(case)
            lights["controls"] = ("green" if above else "amber", text)
    if support is not None:
        text = f"{support.text} of states"
        ess = "" if support.ess is None else f"; effective sample {support.ess:.1%} of sessions"
        by_pages = ", ".join(f"{name.upper()} {number:,.0f}" for name, number in support.pages.items())
        pages = f"; effective pages {by_pages}" if by_pages else ""
        models = (
            f"; {_by_model(record)} levels by model of users" if record is not None and record.gains_by_model else ""
        )
        enough = "green" if support.states >= 0.5 else "amber"
        lights["support"] = ("red" if case.undetermined or case.unlike_logged else enough, text + ess + pages + models)
    if case.served is not None:
        text = f"{case.served.distinct_items:,} items; {_few(case.served, 'impressions')}"
        lights["catalogue"] = ("red" if case.concentrated else "green", text)
    return tuple(
        Light.model_validate({"name": name, "colour": colour, "number": number})
        for name, (colour, number) in lights.items()
    )


def _own_units(case: Case) -> list[str]:
    """Return hours to the next session and impressions per session, if known, with the logging policy's values."""
    measures = []
    for key, unit in OWN_UNITS.items():
        value, logged = getattr(case.record, key), getattr(case.logging, key, None)
        if value is not None:
            measures.append(f"{value:.1f} {unit}" + ("" if logged is None else f" (logging policy {logged:.1f})"))
    return measures


def _gain(record: Record) -> str:
    low, high = record.gain_interval
    return f"{record.gain:+z.2f} [{low:+z.2f}, {high:+z.2f}]"


def _interval(low: float, high: float) -> str:
    return f"[{low:z.2f}, {high:z.2f}]"


def _few(served: ServedItems, requests: str) -> str:
    """Return the share of the most served items; without repeats also relative to the largest possible share."""
    count = min(FEW_ITEMS, served.distinct_items)
    taken = f"{'1 item takes' if count == 1 else f'{count} items take'} {served.share_of(FEW_ITEMS):.0%} of {requests}"
    if served.ceiling == 1:
        return taken
    return f"{taken}, {served.concentration(FEW_ITEMS):.0%} of the largest share without repeats"


def _policies(evaluation: Evaluation) -> list[str]:
    own = [record.subject for record in evaluation.records if record.role == "policy"]
    return list(dict.fromkeys([*own, *(name for name in evaluation.support if not is_control(name))]))
