"""First screen of a report: a headline, the next step, and one card per policy with its verdict."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from shlex import quote
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from prefrec_ray import storage
from prefrec_ray.evaluation.results.case import Case
from prefrec_ray.evaluation.results.names import serving_rule
from prefrec_ray.evaluation.results.records import Evaluation, ItemShare, Light, PolicyVerdict, Record, ServedItems
from prefrec_ray.evaluation.results.rules import RULES, coverage, deciding
from prefrec_ray.evaluation.results.verdict import VERDICTS, case_of
from prefrec_ray.guard_rails import Status
from prefrec_ray.reports import html
from prefrec_ray.reports.load import ItemId, title_of

#: Cards that are not folded.
SHOWN = 10
#: Items that a card names.
ITEMS = 5
#: Status of a guard-rail -> colour of its row.
RAIL_COLOURS: dict[Status, str] = {"kept": "green", "open": "amber", "broken": "red"}
#: A colour is never the only sign.
SIGNS = {"green": "✓", "amber": "!", "red": "✕", "grey": "–"}


def first_screen(
    evaluation: Evaluation,
    facts: Sequence[tuple[str, str]],
    titles: Mapping[ItemId, str] = MappingProxyType({}),
    shown: int = SHOWN,
) -> Markup:
    """Return the screen as a part of a page.

    `facts`: terms and texts about runs and data. `titles`: of items that have one. `shown`: cards that are not folded.
    """
    verdicts = evaluation.verdicts
    if not verdicts:
        headline = "Not evaluated yet: run prefrec evaluate, then this report again."
        return html.render("first", {"headline": headline, "facts": facts, "cards": []})
    held = [one.verdict for one in verdicts.values()]
    cards = [_card(evaluation, case_of(evaluation, policy), one, titles) for policy, one in verdicts.items()]
    screen = {
        "headline": _headline(held),
        "next": _next(evaluation),
        "counts": [(key, f"{words}: {held.count(key)}") for key, words in VERDICTS.items() if key in held],
        "cards": cards[:shown],
        "folded": cards[shown:],
        "facts": facts,
        "verdicts": VERDICTS,
        "coverage": coverage(),
        "difference": evaluation.difference,
    }
    return html.render("first", screen)


def items_shown(evaluation: Evaluation) -> list[ItemId]:
    """Return the ids of all items that cards name."""
    return [item.item_id for policy in evaluation.verdicts for item in _most_served(evaluation.served.get(policy))]


def _headline(held: Sequence[str]) -> str:
    candidates, total = held.count("candidate"), len(held)
    policies = "1 policy" if total == 1 else f"{total} policies"
    if not candidates:
        return f"None of {policies} is a candidate for an A/B test" if total > 1 else "No candidate for an A/B test"
    if total == 1:
        return "The policy is a candidate for an A/B test"
    return f"{candidates} of {policies} {'is a candidate' if candidates == 1 else 'are candidates'} for an A/B test"


def _next(evaluation: Evaluation) -> tuple[str, str]:
    """Return the next step for the best policy, from the rule that decided on it, and its command.

    The best policy is the first candidate that draws its items, else the first candidate, else the first policy.
    """
    candidates = [name for name, one in evaluation.verdicts.items() if one.verdict == "candidate"]
    drawing = [name for name in candidates if not _always_best(_own(evaluation, name))]
    name = next(iter([*drawing, *candidates, *evaluation.verdicts]))
    case = case_of(evaluation, name)
    rule = RULES[-1] if candidates else deciding(case)
    uri = next((record.bundle for record in _own(evaluation, name) if record.bundle), "RUN/policy")
    if rule.search:
        output = quote(storage.join(posixpath.dirname(uri.rstrip("/")) or ".", "constrained"))
        constrain = f"prefrec constrain {quote(uri)} --dataset {quote(evaluation.dataset or 'DATASET')}"
        return rule.step(case), f"{constrain} --output {output}{' --config CONFIG' if case.rails else ''}"
    if candidates:
        return rule.step(case), f"prefrec serve {quote(uri)} --state STATE\nprefrec compare STATE --days 7"
    return rule.step(case), ""


def _card(evaluation: Evaluation, case: Case, verdict: PolicyVerdict, titles: Mapping[ItemId, str]) -> dict[str, Any]:
    """Return the values of a card: verdict, caution, four checks, guard-rails and most served items."""
    own, served = _own(evaluation, case.policy), evaluation.served.get(case.policy)
    caution = _always_best(own)
    cautious = caution and verdict.verdict == "candidate"
    reference = "current" if any(record.gain_over_current is not None for record in own) else "logging"
    return {
        "title": case.policy,
        "about": _about(own),
        "colour": "caution" if cautious else verdict.verdict,
        "verdict": VERDICTS[verdict.verdict] + (", with a caution" if cautious else ""),
        "always_best": caution,
        "lamps": [_lamp(light, caution) for light in verdict.lights if light.name != "support"],  # of older files
        "rails": [(rail, RAIL_COLOURS[rail.status], SIGNS[RAIL_COLOURS[rail.status]]) for rail in case.rails],
        "reference": reference,
        "reasons": verdict.reasons,
        "truth": [_truth(record) for record in own if record.estimator == "online"],
        "served": "Most served, in roll-outs" if served and served.counted == "roll-out" else "Most served",
        "most_served": [(title_of(i.item_id, titles), html.share(i.share)) for i in _most_served(served)],
    }


def _lamp(light: Light, caution: bool) -> tuple[str, str, str, list[str]]:
    """Return name, colour, sign and lines of a check. It is not green if the card has a caution about it."""
    colour = "amber" if light.colour == "green" and light.name == "catalogue" and caution else light.colour
    return light.name, colour, SIGNS[colour], light.number.split("; ")


def _own(evaluation: Evaluation, policy: str) -> list[Record]:
    return [record for record in evaluation.records if record.subject == policy]


def _always_best(own: Sequence[Record]) -> bool:
    """Return whether a policy, by its records, always shows the items with the highest scores."""
    return any((record.provenance or {}).get("rule") == "best" for record in own)


def _most_served(served: ServedItems | None) -> Sequence[ItemShare]:
    return served.top_items[:ITEMS] if served else ()


def _about(own: Sequence[Record]) -> str:
    """Return method, recipe, serving rule and task, as far as the records contain them."""
    if not own:
        return ""
    made = own[0].provenance or {}
    recipe = f"recipe {made['recipe']}" if made.get("recipe") else ""
    averaged = made.get("averaged")
    nights = f"mean Q of {len(averaged)} nights" if isinstance(averaged, list) and averaged else ""
    tasks = f"for {', '.join(dict.fromkeys(record.task for record in own))}"
    return ", ".join(filter(None, (own[0].method, recipe, serving_rule(made), nights, tasks)))


def _truth(record: Record) -> str:
    low, high = record.gain_interval
    return (
        f"True gain over the logging policy, in the simulator: {record.gain:+z.2f} [{low:+z.2f}, {high:+z.2f}] levels."
    )
