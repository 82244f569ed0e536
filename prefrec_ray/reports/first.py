"""The first screen of a report: what was trained on what, and for each policy a verdict, five lights and its items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from prefrec_ray.evaluation.case import Case
from prefrec_ray.evaluation.records import Evaluation, ItemShare, PolicyVerdict, Record, Served
from prefrec_ray.evaluation.verdict import ESTIMATORS, VERDICTS, case_of
from prefrec_ray.reports import html
from prefrec_ray.reports.catalogue import Item, ItemId
from prefrec_ray.reports.levels import LEVEL

#: Policies that are not folded, and items that are named of each.
SHOWN, ITEMS = 10, 5
#: A colour is never alone: these signs say the same.
SIGNS = {"green": "✓", "amber": "!", "red": "✕", "grey": "–"}
LEGEND = (
    ("candidate", "the gain is above 0 and above whatever knows nothing, and the log vouches for the policy's way"),
    ("no difference", "the gain's interval holds 0, or those who know nothing gain as much"),
    ("cannot say", "the log has not been where the policy leads users, or the estimate is no good: test nothing on it"),
    ("do not ship", "the gain is below 0"),
    ("value", "gain in levels over the logging policy, the dashed line; bar and brackets: 95 % interval"),
    ("support", "share of the states on the policy's own way that the log knows, and how much of the log speaks of it"),
    ("catalogue", "how many items it shows: a policy that shows everybody the same few is not to be judged by a log"),
    ("controls", "the largest gain among negative controls, which know nothing of the user"),
    ("convergence", "the interval of the level, which must lie inside what a level can be"),
    ("level", LEVEL.partition(": ")[2]),
)


@dataclass(frozen=True)
class Lamp:
    """A light: its `lines` are what was seen."""

    name: str
    colour: str
    sign: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Bar:
    """An interval on the page's common scale: percent from the left; `zero` is where no gain is."""

    low: float
    high: float
    value: float
    zero: float


@dataclass(frozen=True)
class PolicyRow:
    """A policy: the verdict's key and words, why, and what it serves most."""

    title: str
    about: str
    verdict: str
    said: str
    reasons: Sequence[str]
    lamps: Sequence[Lamp]
    bar: Bar | None
    truth: str
    items: Sequence[tuple[Item, str]]  # with its share of the requests


@dataclass(frozen=True)
class FirstScreen(html.Block):
    """`facts`: terms and texts; `rows`: policies, best first; `folded`: those after the first ones."""

    kind = "first"
    headline: str
    counts: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]
    rows: Sequence[PolicyRow]
    folded: Sequence[PolicyRow]
    legend: Sequence[tuple[str, str]] = LEGEND


def first_screen(
    evaluation: Evaluation,
    facts: Sequence[tuple[str, str]],
    items: Mapping[ItemId, Item] = MappingProxyType({}),
    shown: int = SHOWN,
) -> FirstScreen:
    """The screen; `items`: those that are more than an id; `shown`: so many policies are not folded."""
    verdicts = evaluation.verdicts
    if not verdicts:
        headline = "Not evaluated yet: run prefrec evaluate, then this report again."
        return FirstScreen(headline, (), facts, (), ())
    cases = {policy: case_of(evaluation, policy) for policy in verdicts}
    scale = _scale(list(cases.values()))
    rows = [_row(evaluation, cases[policy], one, scale, items) for policy, one in verdicts.items()]
    held = [one.verdict for one in verdicts.values()]
    counts = [(key, f"{words}: {held.count(key)}") for key, words in VERDICTS.items() if key in held]
    return FirstScreen(_headline(held), counts, [*facts, *_how_sure(cases)], rows[:shown], rows[shown:])


def _headline(held: Sequence[str]) -> str:
    candidates, total = held.count("candidate"), len(held)
    policies = "1 policy" if total == 1 else f"{total} policies"
    if not candidates:
        return f"None of {policies} is a candidate for an A/B test" if total > 1 else "No candidate for an A/B test"
    if total == 1:
        return "The policy is a candidate for an A/B test"
    return f"{candidates} of {policies} {'is a candidate' if candidates == 1 else 'are candidates'} for an A/B test"


def _how_sure(cases: Mapping[str, Case]) -> list[tuple[str, str]]:
    """By what values are estimated, and over how many users the intervals are."""
    records = [case.record for case in cases.values() if case.record is not None]
    if not records:
        return [("How sure", "no value could be estimated from the log")]
    by = ", ".join(dict.fromkeys(ESTIMATORS[record.estimator] for record in records))
    users, sessions = max(record.users for record in records), max(record.sessions for record in records)
    return [("How sure", f"intervals of 95 % over {users:,} users ({sessions:,} sessions), by {by}")]


def _row(
    evaluation: Evaluation, case: Case, verdict: PolicyVerdict, scale: tuple[float, float], items: Mapping[ItemId, Item]
) -> PolicyRow:
    own = [record for record in evaluation.records if record.subject == case.policy]
    served = evaluation.served.get(case.policy)
    return PolicyRow(
        title=case.policy,
        about=_about(own),
        verdict=verdict.verdict,
        said=VERDICTS[verdict.verdict],
        reasons=verdict.reasons,
        lamps=[
            Lamp(light.name, light.colour, SIGNS[light.colour], light.number.split("; ")) for light in verdict.lights
        ],
        bar=_bar(case, scale),
        truth="; ".join(_truth(record) for record in own if record.estimator == "online"),
        items=[(items.get(i.item_id, Item(str(i.item_id))), html.share(i.share)) for i in most_served(served)],
    )


def most_served(served: Served | None) -> Sequence[ItemShare]:
    """The items that are named of a policy."""
    return served.top_items[:ITEMS] if served else ()


def items_shown(evaluation: Evaluation) -> list[ItemId]:
    """Ids of all items that are named."""
    return [item.item_id for policy in evaluation.verdicts for item in most_served(evaluation.served.get(policy))]


def _about(own: Sequence[Record]) -> str:
    """What the policy is: method, recipe, serving rule and task, as far as its records say."""
    if not own:
        return ""
    made = own[0].provenance or {}
    recipe = f", recipe {made['recipe']}" if made.get("recipe") else ""
    rule = f", rule {made['rule']}" if made.get("rule") else ""
    if made.get("rule") == "sample":  # the same networks, drawn from in another way, are another policy
        rule += "".join(f", {key} {made[key]:g}" for key in ("temperature", "variety") if made.get(key) is not None)
    nights = f", mean Q of {len(made['averaged'])} nights" if made.get("averaged") else ""
    return f"{own[0].method}{recipe}{rule}{nights}, for {', '.join(dict.fromkeys(record.task for record in own))}"


def _truth(record: Record) -> str:
    low, high = record.gain_interval
    return f"True gain in the simulator: {record.gain:+z.2f} [{low:+z.2f}, {high:+z.2f}] levels"


def _scale(cases: Sequence[Case]) -> tuple[float, float]:
    """The lowest and highest gain that is drawn; 0 is between them."""
    ends = [end for case in cases if case.record and case.converged for end in case.record.gain_interval]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _bar(case: Case, scale: tuple[float, float]) -> Bar | None:
    if case.record is None or not case.converged:
        return None
    low, high = scale
    ends = (*case.record.gain_interval, case.record.gain, 0.0)
    return Bar(*(round(100 * (end - low) / (high - low), 2) for end in ends))
