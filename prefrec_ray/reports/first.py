"""First screen of a report: a headline, five answers, effects as figures, and one card per policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.results.verdict import VERDICTS, case_of
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.answers import Answer, answers
from prefrec_ray.reports.cards import Card, card, most_served
from prefrec_ray.reports.catalogue import CatalogueItem, ItemId
from prefrec_ray.reports.effects import LoggedMeans
from prefrec_ray.reports.terms import LEGEND

#: Cards that are not folded.
SHOWN = 10


@dataclass(frozen=True)
class FirstScreen(html.Block):
    """`facts`: terms and texts about runs and data; `cards`: best first; `folded`: cards after the first ones."""

    kind = "first"
    headline: str
    facts: Sequence[tuple[str, str]]
    counts: Sequence[tuple[str, str]] = ()
    answers: Sequence[Answer] = ()
    figures: html.Figures | None = None
    cards: Sequence[Card] = ()
    folded: Sequence[Card] = ()
    legend: Sequence[tuple[str, str]] = LEGEND


def first_screen(
    evaluation: Evaluation,
    facts: Sequence[tuple[str, str]],
    items: Mapping[ItemId, CatalogueItem] = MappingProxyType({}),
    shown: int = SHOWN,
    logged: LoggedMeans | None = None,
) -> FirstScreen:
    """Return the screen.

    `items`: items with a title or picture. `shown`: number of cards that are not folded. `logged`: means of the log.
    """
    verdicts = evaluation.verdicts
    if not verdicts:
        return FirstScreen("Not evaluated yet: run prefrec evaluate, then this report again.", facts)
    cases = {policy: case_of(evaluation, policy) for policy in verdicts}
    cards = [card(evaluation, cases[policy], one, items) for policy, one in verdicts.items()]
    held = [one.verdict for one in verdicts.values()]
    drawn = figures.own_units(list(cases.values()))
    return FirstScreen(
        headline=_headline(held),
        facts=facts,
        counts=[(key, f"{words}: {held.count(key)}") for key, words in VERDICTS.items() if key in held],
        answers=answers(evaluation, cases, verdicts, logged),
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
