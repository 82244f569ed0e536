"""Cards of the first screen: one per policy, with verdict, cautions, effects, five checks and most served items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefrec_ray.evaluation.results.case import Case
from prefrec_ray.evaluation.results.records import (
    ENOUGH,
    Evaluation,
    GuardRailRecord,
    ItemShare,
    Light,
    PolicyVerdict,
    Record,
    ServedItems,
)
from prefrec_ray.evaluation.results.verdict import VERDICTS
from prefrec_ray.guard_rails import Status
from prefrec_ray.reports import html
from prefrec_ray.reports.load import ItemId, title_of
from prefrec_ray.reports.terms import CHECKS, serving_rule

#: Longer times are in days.
DAYS_FROM = 72.0
#: Items that a card names.
ITEMS = 5
#: Status of a guard-rail -> colour of its row.
RAIL_COLOURS: dict[Status, str] = {"kept": "green", "open": "amber", "broken": "red"}
#: A colour is never the only sign.
SIGNS = {"green": "✓", "amber": "!", "red": "✕", "grey": "–"}
ALWAYS_BEST = (
    "It always shows the items with the highest scores (rule best). The log does not show the effect of the same items "
    "on users over hours. If users show fatigue, this harms, and the next log contains little else."
)


@dataclass(frozen=True)
class Effect:
    """A measure under a policy in the users' own units: hours until a user comes back, or items per session.

    `key` names the field of the record. The interval is None in files without one.
    """

    key: str
    value: float
    interval: tuple[float, float] | None
    logged: float

    @property
    def sentence(self) -> str:
        """Return the effect as a sentence, next to the logging policy."""
        opening = "Users come back after" if self.key == "mean_revisit_hours" else "A session has"
        between = "" if self.interval is None else f" (95 % interval {in_unit(self.key, *self.interval)})"
        return f"{opening} {in_unit(self.key, self.value)}{between} instead of {in_unit(self.key, self.logged)}."


@dataclass(frozen=True)
class Lamp:
    """One check: its `title`, the `meaning` of the title, and `lines` with the result."""

    name: str
    title: str
    meaning: str
    colour: str
    sign: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Card:
    """One policy. `colour` names the verdict, or `caution` if a candidate has one.

    `rails` has a colour and a sign for each guard-rail, `items` a title and a share of the impressions.
    """

    title: str
    about: str
    colour: str
    verdict: str
    cautions: Sequence[str]
    effects: Sequence[str]
    lamps: Sequence[Lamp]
    rails: Sequence[tuple[GuardRailRecord, str, str]]
    rails_about: str
    reasons: Sequence[str]
    truth: str
    served: str
    items: Sequence[tuple[str, str]]


def card(evaluation: Evaluation, case: Case, verdict: PolicyVerdict, titles: Mapping[ItemId, str]) -> Card:
    """Return the card of one policy; `titles`: of items that have one."""
    own = [record for record in evaluation.records if record.subject == case.policy]
    served = evaluation.served.get(case.policy)
    caution = always_best(evaluation, case.policy)
    cautious = caution and verdict.verdict == "candidate"
    reference = "current" if any(record.gain_over_current is not None for record in own) else "logging"
    return Card(
        title=case.policy,
        about=_about(own),
        colour="caution" if cautious else verdict.verdict,
        verdict=VERDICTS[verdict.verdict] + (", with a caution" if cautious else ""),
        cautions=[ALWAYS_BEST] if caution else [],
        effects=[effect.sentence for effect in effects(case)],
        lamps=[_lamp(light, evaluation, case, caution) for light in verdict.lights],
        rails=[(rail, RAIL_COLOURS[rail.status], SIGNS[RAIL_COLOURS[rail.status]]) for rail in case.rails],
        rails_about=f"Guard-rails: changes from the {reference} policy, or shares",
        reasons=verdict.reasons,
        truth=" ".join(_truth(record) for record in own if record.estimator == "online"),
        served="Most served, in roll-outs" if served and served.counted == "roll-out" else "Most served",
        items=[(title_of(i.item_id, titles), html.share(i.share)) for i in most_served(served)],
    )


def effects(case: Case) -> list[Effect]:
    """Return hours and items of the policy's estimate; nothing without a converged estimate by a model of users."""
    record, logging = case.record, case.logging
    if record is None or logging is None or not case.converged:
        return []
    found = []
    for key in ("mean_revisit_hours", "mean_depth"):
        value, logged = getattr(record, key), getattr(logging, key)
        if value is not None and logged is not None:
            found.append(Effect(key, value, getattr(record, f"{key}_ci"), logged))
    return found


def in_unit(key: str, *values: float) -> str:
    """Return one value, or the two ends of an interval, with the unit."""
    if key == "mean_depth":
        return f"{' to '.join(f'{value:,.1f}' for value in values)} items"
    days = max(values) >= DAYS_FROM
    return f"{' to '.join(f'{value / (24 if days else 1):,.1f}' for value in values)} {'days' if days else 'h'}"


def always_best(evaluation: Evaluation, policy: str) -> bool:
    """Return whether a policy, by its records, always shows the items with the highest scores."""
    own = (record for record in evaluation.records if record.subject == policy)
    return any((record.provenance or {}).get("rule") == "best" for record in own)


def few_effective(evaluation: Evaluation, case: Case) -> str:
    """Return the effective sample if it is too small to compare with the log directly; else an empty text."""
    ess = None if case.support is None else case.support.ess
    logged = [record.sessions for record in evaluation.records if record.estimator in ("ncis", "weights")]
    sessions = max(logged or [record.sessions for record in case.peers], default=0)
    if ess is None or ess * sessions >= ENOUGH:
        return ""
    return f"{ess:.1%}"


def most_served(served: ServedItems | None) -> Sequence[ItemShare]:
    """Return the items that a card names."""
    return served.top_items[:ITEMS] if served else ()


def _lamp(light: Light, evaluation: Evaluation, case: Case, caution: bool) -> Lamp:
    """Return a check of a card. It is not green if the card has a caution about it."""
    title, meaning = CHECKS[light.name]
    colour, lines = light.colour, light.number.split("; ")
    if light.name == "value":
        lines = lines[:1]  # hours and items are the effects of the card
    few = few_effective(evaluation, case) if light.name == "support" else ""
    if few:
        lines = [f"effective sample {few}, too small" if "effective" in line else line for line in lines]
    always = caution and light.name == "catalogue"
    if always:
        lines = [*lines, "always the highest scores"]
    if (few or always) and colour == "green":
        colour = "amber"
    return Lamp(light.name, title, meaning, colour, SIGNS[colour], lines)


def _about(own: Sequence[Record]) -> str:
    """Return method, recipe, serving rule and task, as far as the records contain them."""
    if not own:
        return ""
    made = own[0].provenance or {}
    recipe = f"recipe {made['recipe']}" if made.get("recipe") else ""
    nights = f"mean Q of {len(made['averaged'])} nights" if made.get("averaged") else ""
    tasks = f"for {', '.join(dict.fromkeys(record.task for record in own))}"
    return ", ".join(filter(None, (own[0].method, recipe, serving_rule(made), nights, tasks)))


def _truth(record: Record) -> str:
    low, high = record.gain_interval
    return f"True gain in the simulator: {record.gain:+z.2f} [{low:+z.2f}, {high:+z.2f}] levels."
