"""Choice of the serving rule of trained networks, by roll-outs in models of users.

Temperature, penalties on items like recent ones, and the scores (Q or expected feedback) decide what a policy draws.
Which rule users prefer differs between platforms, and no statistic of the log determines it. Rules are therefore
compared on validation users, in models of different kinds, which disagree if the log does not determine what a rule
does to users. The best rule has the largest mean gain over these models. Its interval need not be above 0: a verdict on
the policy comes from other models. `prefrec constrain` takes the highest lower end of the interval, a smaller gain that
is surer. A rule that breaks fewer guard-rails comes first: a guard-rail is broken here if the mean over users breaks it
in one model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.request import adapted
from prefrec_ray.evaluation.selection.model_score import SETTINGS, ModelScore, ScoreFit, fit_score
from prefrec_ray.evaluation.settings import ModelSettings
from prefrec_ray.guard_rails import GuardRail, check_rails
from prefrec_ray.mdp.exposure import WINDOWS
from prefrec_ray.mdp.serving import UNCHOSEN, Scores, ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.progress import Progress, silent
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import Task

#: Temperatures and diversity penalties to try, each about three times the previous one, from nearly greedy to nearly
#: even draws. The unit is a standard deviation of the scores over items, the same on any platform.
TEMPERATURES, PENALTIES = (0.05, 0.15, 0.45, 1.35), (0.0, 1.0, 3.0, 9.0, 27.0)
#: Repetition penalties to try, per impression of the same kind.
REPETITIONS = (0.0, 0.1, 0.3, 1.0, 3.0)


#: Penalties of which a search tries those next to the best one, after all other settings.
BESIDE = ("variety", "repetition")
#: The stage of a choice: models of users are fitted, then rules are tried.
STAGE = "choose the serving rule: steps"


#: Criterion of the choice between rules: the gain, or the lower end of its interval.
Criterion = Literal["gain", "lower end"]


class Rule(NamedTuple):
    """Values of the serving settings of the same names."""

    temperature: float
    variety: float
    repetition: float
    repetition_window: int
    scores: Scores

    @classmethod
    def from_policy(cls, policy: Policy) -> Rule:
        """Return the rule of a policy, whose settings are never `auto`."""
        return cls(*(getattr(policy.serving, name) for name in cls._fields))


@dataclass(frozen=True)
class Tried:
    """A rule with its support by the log, and its gain over the logging policy with the lower end of the interval.

    `broken`: the guard-rails that it breaks in a model of users.
    """

    rule: Rule
    support: float
    gain: float
    low: float
    broken: Sequence[str] = ()

    def rank(self, by: Criterion) -> tuple[int, float]:
        """Return the key of the order of rules, larger for a better rule."""
        return -len(self.broken), self.gain if by == "gain" else self.low


@dataclass(frozen=True)
class Chosen:
    """The `policy` under the best rule, and all rules that were `tried`."""

    policy: Policy
    tried: Sequence[Tried]

    @property
    def broken(self) -> str:
        """Return the guard-rails that the chosen rule breaks, as text."""
        return ", ".join(self.tried[0].broken)


#: Rolls out rules, and returns them in the same order. The two numbers: rules tried before, and at most in the search.
Try = Callable[[Sequence[Rule], tuple[int, int]], list[Tried]]


@dataclass(frozen=True)
class Grid:
    """Values to try, by serving setting."""

    temperature: Sequence[float] = TEMPERATURES
    variety: Sequence[float] = PENALTIES
    repetition: Sequence[float] = REPETITIONS
    repetition_window: Sequence[int] = WINDOWS
    scores: Sequence[Scores] = ("q", "feedback")

    @classmethod
    def from_serving(cls, serving: ServingSettings) -> Grid:
        """Return the values of the settings that are `auto`, and the single value of each other setting."""
        fixed = {name: [getattr(serving, name)] for name in UNCHOSEN if getattr(serving, name) != "auto"}
        return replace(cls(), **fixed)


#: Settings in the order of a search. Scores come first, since each has its own best penalties.
ROUNDS = ("scores", "variety", "repetition", "repetition_window", "temperature", *BESIDE, "scores")


def search(attempt: Try, start: Rule, grid: Grid, by: Criterion = "gain") -> list[Tried]:
    """Try rules from `start`, coordinate by coordinate, each at the best values so far; return them, best first.

    After all values of each setting come the penalties next to the best so far, and scores again. The window of the
    repetition penalty matters only if there is one.
    """
    tried: dict[Rule, Tried] = {}
    best = start
    for number, name in enumerate(ROUNDS):
        values = getattr(grid, name)
        if name in ROUNDS[:number] and name in BESIDE:
            values = _beside(values, getattr(best, name))
        if name == "repetition_window" and not best.repetition:
            values = []
        rules = dict.fromkeys([best, *(best._replace(**{name: value}) for value in values)])
        new = [rule for rule in rules if rule not in tried]
        if new:
            most = len(tried) + len(new) + most_rules(start, grid, number + 1)
            tried.update(zip(new, attempt(new, (len(tried), most)), strict=True))
        best = max(tried.values(), key=lambda one: one.rank(by)).rule
    return sorted(tried.values(), key=lambda one: one.rank(by), reverse=True)


def most_rules(start: Rule, grid: Grid, number: int = 0) -> int:
    """Return the largest number of rules that a search tries from the round `number` on."""
    most = 0 if number else 1  # `start`
    for later, name in enumerate(ROUNDS[number:], number):
        others = len({*getattr(grid, name)} - {getattr(start, name)})  # than the best rule so far
        most += min(others, 2) if name in ROUNDS[:later] and name in BESIDE else others
    return most


def _beside(values: Sequence[float], value: float) -> list[float]:
    """Return the largest of `values` below `value`, and the smallest above it, if there are any."""
    below, above = ([other for other in values if (other - value) * sign > 0] for sign in (-1, 1))
    return [*([max(below)] if below else []), *([min(above)] if above else [])]


def can_choose(policy: Policy) -> bool:
    """Return whether a serving rule affects the policy, and was not yet chosen by the lower end."""
    return policy.critic is not None and policy.draws_from_all and policy.provenance.get("rule_chosen") != "lower end"


def choose_rule(
    policy: Policy,
    dataset: str,
    progress: Progress = silent,
    where: str = "policy",
    model: ModelSettings = SETTINGS,
    grid: Grid | None = None,
    rails: Sequence[GuardRail] = (),
    by: Criterion = "gain",
    fit: ScoreFit | None = None,
) -> Chosen:
    """Return the policy under the best rule that a `search` finds on validation users, starting from its own rule.

    The models of users have the sizes of `model` if these are smaller than their own; `fit`: a `fit_score` that was
    started before for this data set and these `rails`. The rule that breaks the fewest `rails` is chosen; `by` decides
    between equals. Raises `UserError`, prefixed by `where`: items are not drawn by Q from the whole catalogue,
    histories are too short for a model of users, or the policy is from another platform (`adapted`). Also raises it for
    guard-rails on unknown feedback or items.
    """
    if policy.critic is None or not policy.draws_from_all:
        raise UserError(
            f"{where}: the serving rule has no effect on this policy; expected "
            "serving: {rule: sample, candidates: catalogue} of a method that scores items by Q"
        )
    opened = PreparedDataset.open(dataset)
    items = opened.items()
    if rails:
        check_rails(rails, opened.state.feedback, items)
    policy = adapted(policy, opened, items, where)
    start, values = Rule.from_policy(policy), grid or Grid()
    if policy.critic is None or policy.critic.worth is None:
        values = replace(values, scores=["q"])
    fit = fit or fit_score(dataset, "validation", model, rails)
    fitted = fit.wait(progress, STAGE, most_rules(start, values))
    score, shared, task = fit.score, ray.put(policy), policy.task

    def attempt(rules: Sequence[Rule], of: tuple[int, int]) -> list[Tried]:
        done, most = (fitted + rules for rules in of)
        return run_tasks(lambda rule: _try.remote(score, shared, task, rule), rules, STAGE, progress, (done, most))

    tried = search(attempt, start, values, by)
    progress(STAGE, fitted + len(tried), fitted + len(tried))  # fewer than the most
    chosen = policy.under(**tried[0].rule._asdict())
    return Chosen(replace(chosen, provenance={**policy.provenance, "rule_chosen": by}), tried)


@ray.remote(num_cpus=1)
def _try(score: ModelScore, policy: Policy, task: Task, rule: Rule) -> Tried:
    rolled = score.rolled(policy.under(**rule._asdict()), task)
    return Tried(rule, rolled.support, rolled.gain, rolled.low, rolled.broken)
