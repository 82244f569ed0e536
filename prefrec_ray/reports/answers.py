"""Answers of the first screen: comparison, changes for users, certainty, risks, next step."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from prefrec_ray import storage
from prefrec_ray.evaluation.estimators.importance_sampling import ENOUGH
from prefrec_ray.evaluation.results.case import Case
from prefrec_ray.evaluation.results.records import Evaluation, PolicyVerdict
from prefrec_ray.evaluation.results.verdict import ESTIMATORS
from prefrec_ray.reports.cards import always_best, few_effective
from prefrec_ray.reports.effects import LoggedMeans, effects, sentences
from prefrec_ray.reports.terms import INTERVAL_TERM, LEVEL_TERM, POLICY_TERM

DERIVED = (
    "Hours and items are averages over users that models, fitted to the log, simulate under the policy and under the "
    "logging policy, from the first visit on. They are approximate."
)
#: Policies that the first answer names.
NAMED = 4


@dataclass(frozen=True)
class Answer:
    """A question of a reader, its answer in paragraphs, and terms that are explained on a click."""

    question: str
    lines: Sequence[str]
    terms: Sequence[tuple[str, str]] = ()
    command: str = ""


def answers(
    evaluation: Evaluation,
    cases: Mapping[str, Case],
    verdicts: Mapping[str, PolicyVerdict],
    logged: LoggedMeans | None = None,
) -> list[Answer]:
    """Return the answers about the best policy to test (`chosen`); `logged`: means of the log itself."""
    name = chosen(evaluation, verdicts)
    case, verdict = cases[name], verdicts[name]
    return [
        _compared(evaluation, cases),
        _change(case, verdict, logged),
        _how_sure(case, verdict),
        _risks(evaluation, case, verdicts),
        _next(evaluation, case, verdict),
    ]


def chosen(evaluation: Evaluation, verdicts: Mapping[str, PolicyVerdict]) -> str:
    """Return the first candidate that draws its items, else the first candidate, else the first policy."""
    candidates = [name for name, one in verdicts.items() if one.verdict == "candidate"]
    drawing = [name for name in candidates if not _always_best(evaluation, name)]
    return next(iter([*drawing, *candidates, *verdicts]))


def _compared(evaluation: Evaluation, cases: Mapping[str, Case]) -> Answer:
    names = ", ".join(cases) if len(cases) <= NAMED else f"{len(cases)} policies"
    lines = [f"{names}, each with the logging policy, which chose the items in the log."]
    records = [case.record for case in cases.values() if case.record is not None]
    if records:
        by = " and ".join(dict.fromkeys(ESTIMATORS[record.estimator] for record in records))
        users = max(record.users for record in records)
        lines.append(
            f"Estimated by {by} for {users:,} {evaluation.split or 'held-out'} users. No policy has learned from them."
        )
    return Answer("What was compared?", lines, [POLICY_TERM])


def _change(case: Case, verdict: PolicyVerdict, logged: LoggedMeans | None) -> Answer:
    question = "What changes for users?"
    record, found = case.record, effects(case)
    if record is None or not case.converged:
        return Answer(question, [f"Not known: {case.policy} has no reliable estimate."])
    opening = {"no_difference": "No difference that the log shows. ", "cannot_say": "Not reliable. "}
    with_policy = f"{opening.get(verdict.verdict, '')}With {case.policy}, "
    if not found:
        low, high = record.gain_interval
        text = (
            f"the mean {record.task} level changes by {record.gain:+z.2f} (95 % interval {low:+z.2f} to {high:+z.2f})"
        )
        note = f"An estimate by {ESTIMATORS[record.estimator]} contains no hours and no items."
        return Answer(question, [f"{with_policy}{text}.", note], [LEVEL_TERM])
    text = sentences(found)
    lines = [f"{with_policy}{text[0].lower()}{text[1:]}", DERIVED]
    if logged is not None and case.logging is not None:
        own = LoggedMeans(case.logging.mean_revisit_hours, case.logging.mean_depth or 0.0)
        lines[1] += f" Under the logging policy, {logged} in the log, and {own} in the models."
    return Answer(question, lines, [INTERVAL_TERM])


def _how_sure(case: Case, verdict: PolicyVerdict) -> Answer:
    lines = list(verdict.reasons)
    if case.record is not None and case.record.estimator == "model" and "logged_level" in case.record.settings:
        record = case.record
        lines.append(
            f"Check: the models estimate a {record.task} level of {record.behaviour:.2f} for the logging policy; "
            f"the log has {float(record.settings['logged_level']):.2f}."
        )
    return Answer("How sure is this?", lines, [LEVEL_TERM])


def _risks(evaluation: Evaluation, case: Case, verdicts: Mapping[str, PolicyVerdict]) -> Answer:
    lines = []
    if few := few_effective(evaluation, case):
        lines.append(
            f"{case.policy}: the effective sample is {few} of the logged sessions, too small for a direct comparison "
            f"({ENOUGH} sessions). The estimate rests on the model of users."
        )
    if case.cost is not None:
        lines.append(f"{case.policy}: {case.cost}.")
    best = [name for name in verdicts if _always_best(evaluation, name)]
    if best:
        lines.append(
            f"{', '.join(best)}: always the items with the highest scores. If users show fatigue, this harms, and the "
            "next log contains little else."
        )
    lost = [name for name, support in evaluation.support.items() if not support.supported]
    if lost:
        lines.append(f"{', '.join(lost)}: leads users to states that the log does not contain. The effect is unknown.")
    lines.append(
        "No estimate contains effects that a log does not show, such as a season, a competitor, or users who leave "
        "for good."
    )
    return Answer("What is risky?", lines)


def _next(evaluation: Evaluation, case: Case, verdict: PolicyVerdict) -> Answer:
    question = "What to do next?"
    bundle = next((r.bundle for r in evaluation.records if r.subject == case.policy and r.bundle), None)
    uri = bundle or "RUN/policy"
    policy, dataset = quote(uri), quote(evaluation.dataset or "DATASET")
    if verdict.verdict == "candidate":
        text = (
            f"Test {case.policy} on a small share of users (a canary next to your current policy), then compare both."
        )
        return Answer(question, [text], command=f"prefrec serve {policy} --state STATE\nprefrec compare STATE --days 7")
    if case.support is not None and not case.support.supported:
        text = f"Test nothing yet. Find a serving rule of {case.policy} with more support by the log, then evaluate it."
        output = quote(storage.join(posixpath.dirname(uri.rstrip("/")) or ".", "constrained"))
        return Answer(question, [text], command=f"prefrec constrain {policy} --dataset {dataset} --output {output}")
    if case.record is not None and case.record.estimator == "ncis":
        text = (
            "Test nothing yet. NCIS only ranks policies: evaluate with estimators: [model, ncis] on a log of sessions."
        )
        return Answer(question, [text])
    if verdict.verdict == "do_not_ship":
        return Answer(question, ["Keep the logging policy. Train with another recipe or on more data."])
    return Answer(
        question,
        ["Test nothing yet. Collect a longer log, or evaluate more users (evaluate.model.users)."],
    )


def _always_best(evaluation: Evaluation, name: str) -> bool:
    return always_best([record for record in evaluation.records if record.subject == name])
