"""Cards of the first screen: one per policy, with verdict, cautions, effects, five checks and most served items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefrec_ray.evaluation.estimators.importance_sampling import ENOUGH
from prefrec_ray.evaluation.results.case import Case
from prefrec_ray.evaluation.results.records import Evaluation, ItemShare, Light, PolicyVerdict, Record, ServedItems
from prefrec_ray.evaluation.results.verdict import VERDICTS
from prefrec_ray.reports import html
from prefrec_ray.reports.catalogue import CatalogueItem, ItemId
from prefrec_ray.reports.effects import effects
from prefrec_ray.reports.terms import CHECKS

#: Items that a card names.
ITEMS = 5
#: A colour is never the only sign.
SIGNS = {"green": "✓", "amber": "!", "red": "✕", "grey": "–"}
ALWAYS_BEST = (
    "It always shows the items with the highest scores (rule best). The log does not show the effect of the same "
    "items on "
    "users over hours. If users show fatigue, this harms, and the next log contains little else."
)


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
    """One policy. `colour` names the verdict, or `caution` if a candidate has one."""

    title: str
    about: str
    colour: str
    verdict: str
    cautions: Sequence[str]
    effects: Sequence[str]
    lamps: Sequence[Lamp]
    reasons: Sequence[str]
    truth: str
    served: str
    items: Sequence[tuple[CatalogueItem, str]]  # with its share of the impressions


def card(evaluation: Evaluation, case: Case, verdict: PolicyVerdict, items: Mapping[ItemId, CatalogueItem]) -> Card:
    """Return the card of one policy; `items`: items with a title or a picture."""
    own = [record for record in evaluation.records if record.subject == case.policy]
    served = evaluation.served.get(case.policy)
    caution = ALWAYS_BEST if always_best(own) else ""
    return Card(
        title=case.policy,
        about=_about(own),
        colour="caution" if caution and verdict.verdict == "candidate" else verdict.verdict,
        verdict=VERDICTS[verdict.verdict] + (", with a caution" if caution and verdict.verdict == "candidate" else ""),
        cautions=[caution] if caution else [],
        effects=[effect.sentence for effect in effects(case)],
        lamps=[_lamp(light, evaluation, case, bool(caution)) for light in verdict.lights],
        reasons=verdict.reasons,
        truth=" ".join(_truth(record) for record in own if record.estimator == "online"),
        served="Most served, in roll-outs" if served and served.counted == "roll-out" else "Most served",
        items=[(named(i.item_id, items), html.share(i.share)) for i in most_served(served)],
    )


def always_best(own: Sequence[Record]) -> bool:
    """Return whether a policy, by its records, always shows the items with the highest scores."""
    return any((record.provenance or {}).get("rule") == "best" for record in own)


def few_effective(evaluation: Evaluation, case: Case) -> str:
    """Return the effective sample if it is too small to compare with the log directly; else an empty text."""
    ess = None if case.support is None else case.support.ess
    logged = [record.sessions for record in evaluation.records if record.estimator in ("ncis", "weights")]
    sessions = max(logged or [record.sessions for record in case.peers], default=0)
    if ess is None or ess * sessions >= ENOUGH:
        return ""
    return f"{ess:.1%}"


def named(item_id: ItemId, items: Mapping[ItemId, CatalogueItem]) -> CatalogueItem:
    """Return the item with its title, or with its id if it has none."""
    return items.get(item_id, CatalogueItem(f"item {item_id}"))


def most_served(served: ServedItems | None) -> Sequence[ItemShare]:
    """Return the items that a card names."""
    return served.top_items[:ITEMS] if served else ()


def _lamp(light: Light, evaluation: Evaluation, case: Case, caution: bool) -> Lamp:
    """Return a check of a card. It is not green if the card has a caution about it."""
    title, meaning = CHECKS[light.name]
    colour, lines = light.colour, light.number.split("; ")
    if light.name == "value":
        lines = lines[:1]  # hours and items are the effects of the card
    if light.name == "support":
        few = few_effective(evaluation, case)
        lines = [f"effective sample {few}, too small" if few and "effective" in line else line for line in lines]
        colour = "amber" if few and colour == "green" else colour
    if light.name == "catalogue" and caution:
        colour = "amber" if colour == "green" else colour
        lines = [*lines, "always the highest scores"]
    return Lamp(light.name, title, meaning, colour, SIGNS[colour], lines)


def _about(own: Sequence[Record]) -> str:
    """Return method, recipe, serving rule and task, as far as the records contain them."""
    if not own:
        return ""
    made = own[0].provenance or {}
    recipe = f", recipe {made['recipe']}" if made.get("recipe") else ""
    rule = f", rule {made['rule']}" if made.get("rule") else ""
    if made.get("rule") == "sample":  # the same networks with another temperature are another policy
        rule += "".join(f", {key} {made[key]:g}" for key in ("temperature", "variety") if made.get(key) is not None)
    nights = f", mean Q of {len(made['averaged'])} nights" if made.get("averaged") else ""
    return f"{own[0].method}{recipe}{rule}{nights}, for {', '.join(dict.fromkeys(record.task for record in own))}"


def _truth(record: Record) -> str:
    low, high = record.gain_interval
    return f"True gain in the simulator: {record.gain:+z.2f} [{low:+z.2f}, {high:+z.2f}] levels."
