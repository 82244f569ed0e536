"""The rules of a verdict in their order. The first rule that applies decides; docs/evaluation.md has their table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.case import FEW_ITEMS, Case
from prefrec_ray.evaluation.results.names import length_only
from prefrec_ray.evaluation.results.records import ServedItems
from prefrec_ray.guard_rails import Status

Verdict = Literal["candidate", "no_difference", "inconclusive", "do_not_ship"]

#: Estimators of verdicts: the first one with a record is used. `online` is the truth, and `fqe` has no correction.
ESTIMATORS = {"model": "a model of users", "dr": "doubly robust", "ncis": "NCIS"}
#: Of how many simulated logs (all, and those with a candidate) the interval of the gain by `model` contained the true
#: gain over the logged items shown again, and their number (docs/results/truth_rules.csv).
COVERED = {"logs": (66, 78), "candidates": (41, 52)}


@dataclass(frozen=True)
class Rule:
    """A rule of the verdict.

    `condition`: text of the page. `reason`: why it decides, from a case. `step`: the next step, from a case; `search`
    if this is a search for another serving rule.
    """

    condition: str
    verdict: Verdict
    applies: Callable[[Case], bool]
    reason: Callable[[Case], str]
    step: Callable[[Case], str]
    search: bool = False


def deciding(case: Case) -> Rule:
    """Return the first rule that applies to a case."""
    return next(rule for rule in RULES if rule.applies(case))


def table() -> str:
    """Return the rules as a Markdown table."""
    rows = [f"| {rule.condition} | `{rule.verdict}` |" for rule in RULES]
    return "\n".join(["| condition | verdict |", "|---|---|", *rows])


def coverage(among: Literal["logs", "candidates"] = "logs") -> str:
    """Return the measured coverage of intervals in one sentence."""
    covered, count = COVERED[among]
    what = "simulated logs" if among == "logs" else "simulated logs with a candidate"
    return f"In {covered} of {count} {what} the interval contained the true gain over the logged items."


def few(served: ServedItems, requests: str) -> str:
    """Return the share of the most served items, and the largest possible share if shown items rest."""
    count = min(FEW_ITEMS, served.distinct_items)
    taken = f"{'1 item takes' if count == 1 else f'{count} items take'} {served.share_of(FEW_ITEMS):.0%} of {requests}"
    most = min(1.0, FEW_ITEMS * served.ceiling)
    return taken if served.ceiling == 1 else f"{taken} (at most {most:.0%} is possible: users see no item twice)"


def gain_of(numbers: tuple[float, float, float]) -> str:
    """Return a gain with its interval."""
    return "{:+z.2f} [{:+z.2f}, {:+z.2f}]".format(*numbers)


def by_model(case: Case) -> str:
    """Return the smallest and the largest gain in any model of users; empty without them."""
    gains = () if case.record is None else case.record.gains_by_model
    return f"{min(gains):+z.2f} to {max(gains):+z.2f}" if gains else ""


def _gain(case: Case) -> str:
    return f"Gain over the logged items by {ESTIMATORS[case.estimator]}: {gain_of(case.gain)} levels"


def _over(case: Case) -> str:
    """Return the gain over the current policy; empty without a current policy."""
    return f"Gain over the current policy: {gain_of(case.over_current)} levels" if case.over_current else ""


def _matters(case: Case) -> str:
    return f"the difference that matters, {case.difference:g} levels"


def _rails(case: Case, status: Status) -> str:
    return " ".join(f"Guard-rail {status}: {rail.text}." for rail in case.rails_that_are(status))


def _below(case: Case) -> bool:
    """Return whether the gain is below 0; by NCIS, also below the gain of every negative control."""
    control = case.least_control if case.estimator == "ncis" else None
    return case.gain[2] < min(0.0, control.gain if control else 0.0)


def _collapsed(case: Case) -> str:
    taken = few(case.served, "its impressions") if case.served else ""
    logged = f", logging policy {case.logged.share_of(FEW_ITEMS):.0%}" if case.logged else ""
    return f"{taken}{logged}: the log does not show the effect on users."


def _unlike(case: Case) -> str:
    share = case.support.composition if case.support else None
    pages = f"Only {share or 0.0:.0%} of its pages have at most as many items of one kind as 99 % of logged pages"
    return f"{pages}: the log does not show the effect on users."


def _undetermined(case: Case) -> str:
    models = by_model(case)
    why = f"models of users disagree ({models})" if models else "models of users err"
    return f"{_gain(case)}; {why}: the log does not show the effect."


def _not_above_controls(case: Case) -> str:
    if case.control is None or case.above_control:
        return f"{_gain(case)}; in a model of users a negative control gains as much."
    return f"{_gain(case)}; a negative control ({case.title_of(case.control)}) gains {case.control.gain:+z.2f}."


def _other_estimator(case: Case) -> str:
    if case.estimator != "ncis":
        return f"{_gain(case)}. Only a model of users follows a policy for hours."
    gains = [record.gain for record in case.peers if record.subject == length_only(case.policy)]
    share = gains[0] / case.gain[0] if gains else 0.0
    length = f", and {share:.0%} of the gain is explained by session length only" if share >= 0.005 else ""
    return f"{_gain(case)}. NCIS ranks policies; the size of its gains is biased{length}."


def _candidate(case: Case) -> str:
    rails = f"It keeps the guard-rails {', '.join(rail.rail for rail in case.rails)}." if case.rails else ""
    over = f"{_over(case)}." if case.over_current else ""
    several = f" (also if the intervals of {case.policies} policies are to hold together)" if case.policies > 1 else ""
    above = f"{_gain(case)}, above 0{several} and above every negative control."
    return " ".join(filter(None, [above, over, rails, coverage("candidates")]))


def _more_data(case: Case) -> str:
    if case.estimator != "model":
        return _EVALUATE
    if case.all_users:
        return "Test nothing yet. Collect a longer log: every user of the split was evaluated."
    return "Test nothing yet. Evaluate more users (evaluate.model.users), or collect a longer log."


_EVALUATE = "Test nothing yet. Evaluate with estimators: [model, ncis]."

RULES = (
    Rule(
        "no estimate by `model`, `dr` or `ncis`",
        "inconclusive",
        lambda case: case.record is None,
        lambda case: f"No estimate by {', '.join(ESTIMATORS)}.",
        lambda case: _EVALUATE,
    ),
    Rule(
        "an interval that is not finite or reaches 0 or 5, the ends of the scale (`model`: before errors of models are "
        "added)",
        "inconclusive",
        lambda case: not case.converged,
        lambda case: f"The estimate has not converged: its interval reaches an end of the scale, 0 to {MAX_LEVEL}.",
        _more_data,
    ),
    Rule(
        "a [guard-rail](#guard-rails) is broken",
        "do_not_ship",
        lambda case: bool(case.rails_that_are("broken")),
        lambda case: _rails(case, "broken"),
        lambda case: f"Do not test {case.policy}. Find a serving rule that keeps the guard-rails of CONFIG.",
        search=True,
    ),
    Rule(
        "the gain's interval is on one side of 0, but not by more than the model's error on the level of the logged "
        "items ([calibration](#a-model-of-the-users))",
        "inconclusive",
        lambda case: 0 < case.gain[1] <= case.miss or 0 > case.gain[2] >= -case.miss,
        lambda case: f"{_gain(case)}. The model's error on the level of the logged items is {case.miss:.2f}.",
        lambda case: "Test nothing yet. Collect a longer log: models of users do not reproduce the level of this one.",
    ),
    Rule(
        "the gain's interval is below 0 (`ncis`: and below the gain of every negative control)",
        "do_not_ship",
        _below,
        lambda case: f"{_gain(case)}, entirely below 0.",
        lambda case: "Keep the logging policy. Train with another recipe or on more data.",
    ),
    Rule(
        "the interval of the gain over the [current policy](#the-current-policy) is below 0 by more than that error",
        "do_not_ship",
        lambda case: case.over_current is not None and case.over_current[2] < -case.miss,
        lambda case: f"{_over(case)}, entirely below 0.",
        lambda case: "Keep the current policy.",
    ),
    Rule(
        "ten items get 90 % of its impressions (if users see no item twice: of the largest possible share), and the "
        "logging policy's ten less than half of that: no log shows the effect of serving everybody the same",
        "inconclusive",
        lambda case: case.concentrated,
        _collapsed,
        lambda case: f"Do not test {case.policy} as it is. Find a serving rule that shows more items.",
        search=True,
    ),
    Rule(
        "half of its pages have more items of one kind than 99 % of logged pages: no log shows their effect",
        "inconclusive",
        lambda case: case.unlike_logged,
        _unlike,
        lambda case: f"Do not test {case.policy} as it is. Find a serving rule that mixes kinds of items on a page.",
        search=True,
    ),
    Rule(
        "the gain's interval is within plus or minus the [difference that matters](#the-difference-that-matters)",
        "no_difference",
        lambda case: -case.difference <= case.gain[1] and case.gain[2] <= case.difference,
        lambda case: f"{_gain(case)}, within {_matters(case)}.",
        lambda case: "Keep the logging policy: no difference that matters is expected.",
    ),
    Rule(
        "the gain's interval contains 0 only because [models of users disagree](#disagreement-and-support) or err "
        "([tests](#specification-test))",
        "inconclusive",
        lambda case: case.undetermined,
        _undetermined,
        lambda case: f"Test nothing yet. Find a serving rule of {case.policy} with a clear gain, then evaluate it.",
        search=True,
    ),
    Rule(
        "the gain's interval is not above 0",
        "inconclusive",
        lambda case: case.gain[1] <= 0,
        lambda case: f"{_gain(case)}: not above 0, and the interval exceeds {_matters(case)}.",
        _more_data,
    ),
    Rule(
        "no [negative control](#controls) was scored",
        "inconclusive",
        lambda case: case.control is None,
        lambda case: f"{_gain(case)}, above 0, but no negative control was scored.",
        lambda case: "Test nothing yet. Evaluate again with prefrec evaluate, which scores negative controls.",
    ),
    Rule(
        "the gain exceeds the gain of a negative control by no more than errors of users, or in one of the models of "
        "users a negative control gains as much",
        "inconclusive",
        lambda case: not (case.above_control and case.above_in_each_model),
        _not_above_controls,
        lambda case: (
            "Test nothing yet. Train with another recipe or on more data: a policy that ignores users gains as much."
        ),
    ),
    Rule(
        "the estimator is `ncis` or `dr`: NCIS only ranks, and only `model` follows a policy for hours",
        "inconclusive",
        lambda case: case.estimator != "model",
        _other_estimator,
        lambda case: _EVALUATE,
    ),
    Rule(
        "the estimated gain over the current policy is below 0",
        "inconclusive",
        lambda case: case.over_current is not None and case.over_current[0] < 0,
        lambda case: f"{_over(case)}, mostly below 0.",
        lambda case: "Keep the current policy.",
    ),
    Rule(
        "the gain's interval contains 0 if the intervals of [all policies](#several-policies) are to hold together",
        "inconclusive",
        lambda case: case.lowest <= 0,
        lambda case: (
            f"{_gain(case)}; its lower end is {case.lowest:+z.2f} if the intervals of {case.policies} policies "
            "are to hold together."
        ),
        lambda case: (
            "Test nothing yet. Choose one policy on validation users, and evaluate only this one on test users."
        ),
    ),
    Rule(
        "on `depth` the time to the next session grows by a quarter, on `frequency` the depth falls by a quarter, on "
        "`mixture` one of both is worse by more than the difference that matters",
        "inconclusive",
        lambda case: case.cost is not None,
        lambda case: f"{_gain(case)}, above 0. But {case.cost}: only you can decide whether that is a gain.",
        lambda case: f"Decide whether {case.cost} is acceptable, and set a guard-rail.",
    ),
    Rule(
        "a guard-rail is open",
        "inconclusive",
        lambda case: bool(case.rails_that_are("open")),
        lambda case: f"{_gain(case)}, above 0. {_rails(case, 'open')}",
        _more_data,
    ),
    Rule(
        "else",
        "candidate",
        lambda case: True,
        _candidate,
        lambda case: f"Test {case.policy} on a small share of users (a canary next to your current policy).",
    ),
)
