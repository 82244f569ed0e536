"""The verdict on each policy by the rules, with its reasons and lights (docs/evaluation.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.case import OWN_UNITS, Case
from prefrec_ray.evaluation.results.names import LOGGING_POLICY, is_control
from prefrec_ray.evaluation.results.records import Evaluation, Light, PolicyVerdict
from prefrec_ray.evaluation.results.rules import ESTIMATORS, Verdict, by_model, deciding, few, gain_of

#: Verdict -> title, best first.
VERDICTS: dict[Verdict, str] = {
    "candidate": "candidate for an A/B test",
    "no_difference": "no difference that matters",
    "inconclusive": "inconclusive",
    "do_not_ship": "do not ship",
}


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
    bare = Case(
        policy,
        support=evaluation.support.get(policy),
        served=evaluation.served.get(policy),
        logged=evaluation.served.get(LOGGING_POLICY),
        specification=evaluation.specification,
        rails=evaluation.guard_rails.get(policy, ()),
        policies=max(1, len(_policies(evaluation))),
        difference=evaluation.difference,
    )
    cases = []
    for task in dict.fromkeys(record.task for record in evaluation.records if record.subject == policy):
        own = {r.estimator: r for r in evaluation.records if (r.subject, r.task) == (policy, task)}
        estimator = next((name for name in ESTIMATORS if name in own), None)
        if estimator is not None:
            cases.append(replace(bare, record=own[estimator], peers=evaluation.select(task, estimator)))
    order = list(VERDICTS)
    return max(cases, key=lambda case: order.index(deciding(case).verdict), default=bare)


def decide(case: Case) -> PolicyVerdict:
    """Return the verdict by the first rule that applies, its reasons and the four lights."""
    rule = deciding(case)
    return PolicyVerdict(verdict=rule.verdict, reasons=(rule.reason(case), *_misspecified(case)), lights=_lights(case))


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


def _lights(case: Case) -> tuple[Light, ...]:
    record, control = case.record, case.control
    lights = {
        "value": ("grey", "no value"),
        "catalogue": ("grey", "not measured"),
        "controls": ("grey", "none scored"),
        "convergence": ("grey", "no estimate"),
    }
    if record is not None:
        _, low, high = case.gain
        colour = "green" if low > 0 else "red" if high < 0 else "amber"
        models = [f"{by_model(case)} by model of users"] if record.gains_by_model else []
        own = "; ".join([f"{gain_of(case.gain)} levels", *models, *_own_units(case)])
        lights["value"] = (colour if case.converged else "grey", own)
        where = "reaches an end of the scale"
        if case.converged:
            inside = record.ci_low > 0 and record.ci_high < MAX_LEVEL
            where = "inside the scale" + ("" if inside else " before the errors of models are added")
        interval = f"level {record.ci_low:z.2f} to {record.ci_high:z.2f}"
        lights["convergence"] = ("green" if case.converged else "red", f"{interval}; {where}, 0 to {MAX_LEVEL}")
        if control is not None:
            text = f"{control.gain:+z.2f} levels; {case.title_of(control)}"
            lights["controls"] = ("green" if case.above_control and case.above_in_each_model else "amber", text)
    if case.served is not None:
        text = f"{case.served.distinct_items:,} items; {few(case.served, 'impressions')}"
        text += "; most pages are unlike the log's" if case.unlike_logged else ""
        lights["catalogue"] = ("red" if case.concentrated or case.unlike_logged else "green", text)
    return tuple(
        Light.model_validate({"name": name, "colour": colour, "number": number})
        for name, (colour, number) in lights.items()
    )


def _own_units(case: Case) -> list[str]:
    """Return hours to the next session and impressions per session, if known, with the logged items' values."""
    measures = []
    for key, unit in OWN_UNITS.items():
        value, logged = getattr(case.record, key), getattr(case.logging, key, None)
        if value is not None:
            measures.append(f"{value:.1f} {unit}" + ("" if logged is None else f" (logged items {logged:.1f})"))
    return measures


def _policies(evaluation: Evaluation) -> list[str]:
    own = [record.subject for record in evaluation.records if record.role == "policy"]
    return list(dict.fromkeys([*own, *(name for name in evaluation.support if not is_control(name))]))
