"""First screen of a report: a headline, five answers, effects as figures, and one card per policy."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from types import MappingProxyType

from markupsafe import Markup

from prefrec_ray import storage
from prefrec_ray.evaluation.results.case import Case
from prefrec_ray.evaluation.results.names import CURRENT
from prefrec_ray.evaluation.results.records import ENOUGH, Evaluation, PolicyVerdict
from prefrec_ray.evaluation.results.verdict import ESTIMATORS, VERDICTS, case_of
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.cards import Card, always_best, card, effects, few_effective, most_served
from prefrec_ray.reports.load import ItemId
from prefrec_ray.reports.terms import INTERVAL_TERM, LEGEND, LEVEL_TERM, POLICY_TERM

#: Cards that are not folded.
SHOWN = 10
#: Policies that the first answer names.
NAMED = 4
DERIVED = (
    "Hours and items are averages over users that models, fitted to the log, simulate under the policy and under the "
    "logging policy, from the first visit on. They are approximate."
)


@dataclass(frozen=True)
class Answer:
    """A question of a reader, its answer in paragraphs, and terms that are explained on a click."""

    question: str
    lines: Sequence[str]
    terms: Sequence[tuple[str, str]] = ()
    command: str = ""


@dataclass(frozen=True)
class FirstScreen:
    """`facts`: terms and texts about runs and data; `cards`: best first; `folded`: cards after the first ones."""

    headline: str
    facts: Sequence[tuple[str, str]]
    counts: Sequence[tuple[str, str]] = ()
    answers: Sequence[Answer] = ()
    figures: Markup | None = None
    cards: Sequence[Card] = ()
    folded: Sequence[Card] = ()
    legend: Sequence[tuple[str, str]] = LEGEND

    def render(self) -> Markup:
        """Return the screen as a part of a page."""
        return html.render("first", self)


def first_screen(
    evaluation: Evaluation,
    facts: Sequence[tuple[str, str]],
    titles: Mapping[ItemId, str] = MappingProxyType({}),
    shown: int = SHOWN,
) -> FirstScreen:
    """Return the screen. `titles`: of items that have one. `shown`: number of cards that are not folded."""
    verdicts = evaluation.verdicts
    if not verdicts:
        return FirstScreen("Not evaluated yet: run prefrec evaluate, then this report again.", facts)
    cases = {policy: case_of(evaluation, policy) for policy in verdicts}
    cards = [card(evaluation, cases[policy], one, titles) for policy, one in verdicts.items()]
    held = [one.verdict for one in verdicts.values()]
    drawn = figures.own_units(list(cases.values()))
    name = _chosen(evaluation)
    return FirstScreen(
        headline=_headline(held),
        facts=facts,
        counts=[(key, f"{words}: {held.count(key)}") for key, words in VERDICTS.items() if key in held],
        answers=[
            _compared(evaluation, cases),
            _change(cases[name], verdicts[name]),
            _how_sure(cases[name], verdicts[name]),
            _risks(evaluation, cases[name]),
            _next(evaluation, cases[name], verdicts[name]),
        ],
        figures=html.figures(drawn, captions=False) if drawn else None,
        cards=cards[:shown],
        folded=cards[shown:],
    )


def items_shown(evaluation: Evaluation) -> list[ItemId]:
    """Return the ids of all items that cards name."""
    return [item.item_id for policy in evaluation.verdicts for item in most_served(evaluation.served.get(policy))]


def _headline(held: Sequence[str]) -> str:
    candidates, total = held.count("candidate"), len(held)
    policies = "1 policy" if total == 1 else f"{total} policies"
    if not candidates:
        return f"None of {policies} is a candidate for an A/B test" if total > 1 else "No candidate for an A/B test"
    if total == 1:
        return "The policy is a candidate for an A/B test"
    return f"{candidates} of {policies} {'is a candidate' if candidates == 1 else 'are candidates'} for an A/B test"


def _chosen(evaluation: Evaluation) -> str:
    """Return the first candidate that draws its items, else the first candidate, else the first policy."""
    candidates = [name for name, one in evaluation.verdicts.items() if one.verdict == "candidate"]
    drawing = [name for name in candidates if not always_best(evaluation, name)]
    return next(iter([*drawing, *candidates, *evaluation.verdicts]))


def _compared(evaluation: Evaluation, cases: Mapping[str, Case]) -> Answer:
    names = ", ".join(cases) if len(cases) <= NAMED else f"{len(cases)} policies"
    lines = [f"{names}, each with the logging policy, which chose the items in the log."]
    current = next((record.bundle for record in evaluation.records if record.subject == CURRENT), None)
    if current is not None:
        lines.append(f"Also with the current policy, {current}, to which guard-rails are relative.")
    records = [case.record for case in cases.values() if case.record is not None]
    if records:
        by = " and ".join(dict.fromkeys(ESTIMATORS[record.estimator] for record in records))
        users = max(record.users for record in records)
        lines.append(
            f"Estimated by {by} for {users:,} {evaluation.split or 'held-out'} users. No policy has learned from them."
        )
    return Answer("What was compared?", lines, [POLICY_TERM])


def _change(case: Case, verdict: PolicyVerdict) -> Answer:
    question = "What changes for users?"
    record = case.record
    if record is None or not case.converged:
        return Answer(question, [f"Not known: {case.policy} has no reliable estimate."])
    opening = {"no_difference": "No difference that the log shows. ", "inconclusive": "Not reliable. "}
    with_policy = f"{opening.get(verdict.verdict, '')}With {case.policy}, "
    text = " ".join(effect.sentence for effect in effects(case))
    if text:
        return Answer(question, [f"{with_policy}{text[0].lower()}{text[1:]}", DERIVED], [INTERVAL_TERM])
    low, high = record.gain_interval
    text = f"the mean {record.task} level changes by {record.gain:+z.2f} (95 % interval {low:+z.2f} to {high:+z.2f})"
    note = f"An estimate by {ESTIMATORS[record.estimator]} contains no hours and no items."
    return Answer(question, [f"{with_policy}{text}.", note], [LEVEL_TERM])


def _how_sure(case: Case, verdict: PolicyVerdict) -> Answer:
    lines = list(verdict.reasons)
    if case.record is not None and case.record.estimator == "model" and "logged_level" in case.record.settings:
        record = case.record
        lines.append(
            f"Check: the models estimate a {record.task} level of {record.behaviour:.2f} for the logging policy; "
            f"the log has {float(record.settings['logged_level']):.2f}."
        )
    return Answer("How sure is this?", lines, [LEVEL_TERM])


def _risks(evaluation: Evaluation, case: Case) -> Answer:
    lines = []
    if few := few_effective(evaluation, case):
        lines.append(
            f"{case.policy}: the effective sample is {few} of the logged sessions, too small for a direct comparison "
            f"({ENOUGH} sessions). The estimate rests on the model of users."
        )
    if case.cost is not None:
        lines.append(f"{case.policy}: {case.cost}.")
    best = [name for name in evaluation.verdicts if always_best(evaluation, name)]
    if best:
        lines.append(
            f"{', '.join(best)}: always the items with the highest scores. If users show fatigue, this harms, and the "
            "next log contains little else."
        )
    lost = [name for name in evaluation.verdicts if case_of(evaluation, name).undetermined]
    if lost:
        lines.append(f"{', '.join(lost)}: the log does not determine the effect on users.")
    lines.append(
        "No estimate contains effects that a log does not show, such as a season, a competitor, or users who leave "
        "for good."
    )
    return Answer("What is risky?", lines)


def _next(evaluation: Evaluation, case: Case, verdict: PolicyVerdict) -> Answer:
    bundle = next((r.bundle for r in evaluation.records if r.subject == case.policy and r.bundle), None)
    uri = bundle or "RUN/policy"
    policy, dataset = quote(uri), quote(evaluation.dataset or "DATASET")
    output = quote(storage.join(posixpath.dirname(uri.rstrip("/")) or ".", "constrained"))
    command = ""
    if verdict.verdict == "candidate":
        text = (
            f"Test {case.policy} on a small share of users (a canary next to your current policy), then compare both."
        )
        command = f"prefrec serve {policy} --state STATE\nprefrec compare STATE --days 7"
    elif case.undetermined:
        text = f"Test nothing yet. Find a serving rule of {case.policy} with a clear gain, then evaluate it."
        command = f"prefrec constrain {policy} --dataset {dataset} --output {output}"
    elif case.rails_that_are("broken"):
        text = (
            f"Do not test {case.policy}. Find a serving rule that keeps the guard-rails (CONFIG: the YAML with "
            "evaluate.guard_rails), then evaluate it."
        )
        command = f"prefrec constrain {policy} --dataset {dataset} --output {output} --config CONFIG"
    elif case.record is not None and case.record.estimator == "ncis":
        text = (
            "Test nothing yet. NCIS only ranks policies: evaluate with estimators: [model, ncis] on a log of sessions."
        )
    elif verdict.verdict == "do_not_ship":
        text = "Keep the logging policy. Train with another recipe or on more data."
    else:
        text = "Test nothing yet. Collect a longer log, or evaluate more users (evaluate.model.users)."
    return Answer("What to do next?", [text], command=command)
