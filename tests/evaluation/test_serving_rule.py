"""Serving rules chosen by roll-outs: the search, fixed settings, the lower end, and refused policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from platform_desk import make_policy
from small_platform import NETWORKS

from prefrec_ray.cli.main import run as prefrec
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.selection import model_score
from prefrec_ray.evaluation.selection import serving_rule as module
from prefrec_ray.evaluation.selection.model_score import ModelScore, ScoreFit
from prefrec_ray.evaluation.selection.serving_rule import (
    TEMPERATURES,
    Chosen,
    Grid,
    Rule,
    Tried,
    choose_rule,
    most_rules,
    search,
)
from prefrec_ray.evaluation.settings import EvaluateSettings, ModelSettings
from prefrec_ray.guard_rails import GuardRail, guard_rails
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.runs import train as runs
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import start_run


def trained(**serving: Any) -> Policy:
    return make_policy(serving=ServingSettings(**serving), provenance={"task": "depth", "method": "PrefRec"})


LAW = {"temperature": 0.45, "variety": 9.0, "repetition": 0.3, "repetition_window": 100}


def plain(rule: Rule) -> Tried:
    """Roll out in a law instead of a model: the farther from the best rule, the lower; feedback adds a tenth."""
    away = abs(math.log(rule.temperature / LAW["temperature"])) + abs(rule.variety - LAW["variety"]) / 10
    away += abs(rule.repetition - LAW["repetition"])
    away += 0.1 * (rule.repetition > 0 and rule.repetition_window != LAW["repetition_window"])
    low = 2.0 - away + 0.1 * (rule.scores == "feedback")
    return Tried(rule, support=1 - math.exp(-4 * rule.temperature - rule.variety), gain=low + 1, low=low)


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    """A law instead of a model of users, without Ray."""

    def fit(uri: str, split: str, model: ModelSettings, rails: Sequence[GuardRail]) -> ScoreFit:
        assert (uri.rpartition("/")[2], split) == ("data", "validation")
        return ScoreFit([], None)

    monkeypatch.setattr(module, "fit_score", fit)
    for name in ("put", "get"):
        monkeypatch.setattr(module.ray, name, lambda value: value)
    monkeypatch.setattr(module.ray, "wait", lambda tasks, **_: (tasks, []))
    monkeypatch.setattr(module, "run_tasks", lambda start, rules, *_: [plain(rule) for rule in rules])
    monkeypatch.setattr(module, "adapted", lambda policy, *_: policy)
    monkeypatch.setattr(module.PreparedDataset, "open", lambda uri: SimpleNamespace(items=tuple))


START = Rule(0.2, 1.0, 0.0, 30, "q")


def found(rules: list[Rule] | None = None, start: Rule = START, **grid: Any) -> list[Tried]:
    def attempt(several: Sequence[Rule], of: tuple[int, int]) -> list[Tried]:
        (rules if rules is not None else []).extend(several)
        return [plain(rule) for rule in several]

    return search(attempt, start, Grid(**grid))


def test_the_best_rule_of_the_grid_is_found_and_no_rule_is_tried_twice() -> None:
    rules: list[Rule] = []
    tried = found(rules)
    assert tried[0].rule == Rule(0.45, 9.0, 0.3, 100, "feedback")
    assert [one.low for one in tried] == sorted((one.low for one in tried), reverse=True)
    assert len(rules) == len(set(rules)) == len(tried)
    assert START in rules
    # start, scores, diversity and repetition penalties, windows, temperatures, penalties close to the best one, scores
    assert len(rules) == 1 + 1 + 4 + 4 + 2 + 4 + 2 + 2 + 1


@pytest.mark.parametrize("start", [START, Rule(0.45, 9.0, 0.3, 100, "feedback"), Rule(0.7, 2.0, 0.7, 7, "q")])
@pytest.mark.parametrize("seed", range(20))
def test_the_most_rules_of_a_search_are_stated_before_it_and_only_become_fewer(start: Rule, seed: int) -> None:
    """Whatever rules win."""
    rng, stated = np.random.default_rng(seed), []

    def attempt(rules: Sequence[Rule], of: tuple[int, int]) -> list[Tried]:
        stated.append((*of, len(rules)))
        return [Tried(rule, support=1.0, gain=rng.random(), low=0.0) for rule in rules]

    tried = search(attempt, start, Grid())
    before, most, new = (np.array(numbers) for numbers in zip(*stated, strict=True))
    assert list(before) == [0, *np.cumsum(new)[:-1]]
    assert most_rules(start, Grid()) == most[0]
    assert (np.diff(most) <= 0).all()
    assert (most >= len(tried)).all()


def test_one_stage_counts_models_and_rules(users: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two models one is fitted before, and the score of both is ready later than either."""
    waits = [["second", "score"], ["score"], []]
    monkeypatch.setattr(module.ray, "wait", lambda tasks, **_: ([], waits.pop(0)))
    monkeypatch.setattr(module, "fit_score", lambda *_: ScoreFit(["first", "second"], "score"))
    reports: list[tuple[str, int, int]] = []

    def run_tasks(start: Any, rules: Sequence[Rule], stage: str, progress: Any, of: tuple[int, int]) -> list[Tried]:
        progress(stage, *of)
        return [plain(rule) for rule in rules]

    monkeypatch.setattr(module, "run_tasks", run_tasks)
    tried = choose_rule(trained(), "data", lambda *values: reports.append(values)).tried
    stages, done, total = zip(*reports, strict=True)
    assert len(set(stages)) == 1
    assert done[:4] == (1, 2, 3, 3)
    assert list(done) == sorted(done)
    assert list(total) == sorted(total, reverse=True)
    assert (done[-1], total[-1]) == (3 + len(tried), 3 + len(tried))


def test_penalties_are_those_of_the_better_scores() -> None:
    """Scores by Q are best under the largest penalty; there, scores by feedback are worse than under any other one."""

    def attempt(rules: Sequence[Rule], of: tuple[int, int]) -> list[Tried]:
        gains = [rule.variety if rule.scores == "q" else 40 - 2 * rule.variety for rule in rules]
        return [Tried(rule, support=1.0, gain=gain, low=gain) for rule, gain in zip(rules, gains, strict=True)]

    best = search(attempt, START, Grid())[0].rule
    assert (best.scores, best.variety) == ("feedback", 0.0)


def test_a_rule_that_breaks_a_guard_rail_is_chosen_only_if_no_other_rule_keeps_it() -> None:
    """A diversity penalty above 2 breaks one guard-rail, scores by feedback another."""

    def attempt(rules: Sequence[Rule], of: tuple[int, int], always: tuple[str, ...] = ()) -> list[Tried]:
        return [
            replace(plain(rule), broken=(*always, *["share"] * (rule.variety > 2), *["like"] * (rule.scores != "q")))
            for rule in rules
        ]

    tried = search(attempt, START, Grid())
    kept = [one for one in tried if not one.broken]
    assert tried[: len(kept)] == kept
    assert tried[0].rule == Rule(0.45, 1.0, 0.3, 100, "q")
    assert tried[0].low == max(one.low for one in kept) < max(one.low for one in tried)
    assert [len(one.broken) for one in tried] == sorted(len(one.broken) for one in tried)
    none = search(lambda rules, of: attempt(rules, of, always=("depth",)), START, Grid())
    assert (none[0].rule, none[0].broken) == (tried[0].rule, ("depth",))


def test_a_guard_rail_is_relative_to_the_logging_policy_and_broken_by_one_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first model has 4 % fewer likes than the logging policy, the second as many."""

    def roll_out(likes: list[float]) -> SimpleNamespace:
        feedback = np.tile(np.array(likes)[:, None, None], (1, 3, 1))
        return SimpleNamespace(levels={"depth": feedback[:, :, 0]}, inputs=None, feedback=feedback)

    monkeypatch.setattr(model_score, "roll_out", lambda *_, **__: roll_out([0.48, 0.5]))
    monkeypatch.setattr(model_score, "policy_server", lambda *_: None)
    monkeypatch.setattr(model_score, "with_rest", lambda platform, _: platform)
    monkeypatch.setattr(model_score, "with_pins", lambda _, server: server)
    platform = SimpleNamespace(items=None, state=SimpleNamespace(feedback=("like",)))
    ensemble = SimpleNamespace(members=[], pasts=SimpleNamespace(share=lambda inputs: 1.0))
    rails = guard_rails(["feedback.like >= -3 %", "feedback.like >= -5 %"])
    score = ModelScore(platform, ensemble, roll_out([0.5, 0.5]), None, rails)
    assert score.rolled(trained(), "depth").broken == ["feedback.like >= -3 %"]


def test_settings_with_a_value_are_kept() -> None:
    grid = Grid.from_serving(ServingSettings(temperature=0.3))
    assert (grid.temperature, grid.variety, grid.scores) == ([0.3], Grid().variety, Grid().scores)
    rules: list[Rule] = []
    found(rules, START._replace(temperature=0.3), temperature=[0.3], scores=["q"])
    assert {(rule.temperature, rule.scores) for rule in rules} == {(0.3, "q")}


def test_the_chosen_policy_differs_in_its_rule_only(users: None) -> None:
    policy = trained()
    chosen = choose_rule(policy, "data").policy
    serving = policy.serving.model_copy(update=LAW)
    assert chosen == replace(policy, serving=serving, provenance={**policy.provenance, "rule_chosen": "gain"})


def test_the_gain_decides_or_its_lower_end() -> None:
    """Scores by Q gain more in the mean, and models disagree on them."""

    def attempt(rules: Sequence[Rule], of: tuple[int, int]) -> list[Tried]:
        return [
            Tried(rule, support=0.0, gain=0.9, low=-0.1)
            if rule.scores == "q"
            else Tried(rule, support=1.0, gain=0.5, low=rule.temperature / 2)
            for rule in rules
        ]

    grid = Grid(variety=[0.0], repetition=[0.0])
    assert search(attempt, START, grid)[0].rule.scores == "q"
    surest = search(attempt, START, grid, "lower end")[0]
    assert (surest.rule.scores, surest.low) == ("feedback", surest.rule.temperature / 2)


def test_the_lower_end_contains_the_errors_of_users_and_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models and users with known levels; a user without a level in one model does not count there."""
    levels = np.array([[2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, np.nan]])
    own, logged = (SimpleNamespace(levels={"depth": of}, inputs=None) for of in (levels, np.ones_like(levels)))
    monkeypatch.setattr(model_score, "roll_out", lambda *_, **__: own)
    monkeypatch.setattr(model_score, "policy_server", lambda *_: None)
    monkeypatch.setattr(model_score, "with_rest", lambda platform, _: platform)
    monkeypatch.setattr(model_score, "with_pins", lambda _, server: server)
    pasts = SimpleNamespace(share=lambda inputs: 0.9)
    platform = SimpleNamespace(items=None, state=SimpleNamespace(feedback=()))
    score = ModelScore(platform, SimpleNamespace(members=[], pasts=pasts), logged, None)
    rolled = score.rolled(trained(), "depth")
    assert rolled.level == pytest.approx(np.mean([2, 3, 4, 5, 1, 2, 3]))
    assert rolled.support == 0.9
    assert rolled.gain == pytest.approx((2.5 + 1.0) / 2)
    users = 1.96 * np.std([0.5, 1.5, 2.5, 4.0]) / 2
    kinds = 12.7062 * math.sqrt(1.5) * np.std([2.5, 1.0], ddof=1)  # Student's t of one degree of freedom
    assert rolled.low == pytest.approx(rolled.gain - math.hypot(users, kinds), rel=1e-4)


def test_a_run_exports_its_policy_under_the_best_rule(
    short_fits: None, small_platform: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many roll-outs as in an evaluation choose the rule; the penalty has a value, and is kept."""
    choices, sizes = [], []

    def choose(*arguments: Any, **named: Any) -> Chosen:
        score = ray.get(named["fit"].score)
        sizes.append((len(score.ensemble.members), len(score.platform.users), score.platform.requests))
        choices.append(choose_rule(*arguments, **named))
        return choices[-1]

    monkeypatch.setattr(runs, "choose_rule", choose)
    config = {**NETWORKS, "num_epochs": 0.2, "updates_per_iteration": 4, "serving": {"variety": 3.0}}
    settings = TrainSettings(task="depth", validation=None, config=config)
    dataset, said = str(small_platform / "dataset"), []
    wrong = EvaluateSettings(guard_rails=("feedback.none >= -2 %",))
    with pytest.raises(UserError, match="found feedback 'none'; expected one of"):
        start_run(settings, dataset, str(tmp_path / "run"), evaluation=wrong)
    assert not (tmp_path / "run").exists()
    rails = ("depth >= -99 %", "exposure[cluster] <= 0.1 %")  # the second is impossible
    evaluation = EvaluateSettings(model=ModelSettings(models=2, users=8, requests=30), guard_rails=rails)
    start_run(settings, dataset, str(tmp_path / "run"), say=said.append, evaluation=evaluation)
    (chosen,) = choices
    assert sizes == [(2, 8, 30)]
    assert {tuple(one.broken) for one in chosen.tried} == {("exposure[cluster] <= 0.1 %",)}
    assert said == ["serving rule: every tried rule breaks a guard-rail (the chosen one: exposure[cluster] <= 0.1 %)"]
    rules = [one.rule for one in chosen.tried]
    assert {rule.variety for rule in rules} == {3.0}
    assert {rule.temperature for rule in rules} == {0.2, *TEMPERATURES}
    assert len({one.gain for one in chosen.tried}) > 1
    assert all(0 <= one.support <= 1 and math.isfinite(one.low) for one in chosen.tried)
    best = max(chosen.tried, key=lambda one: one.gain).rule
    policy = Policy.load(str(tmp_path / "run/policy"))
    assert Rule.from_policy(policy) == best
    assert policy.provenance["rule_chosen"]
    kept = settings.model_copy(update={"choose_rule": False})
    start_run(kept, dataset, str(tmp_path / "plain"), evaluation=evaluation)
    assert len(choices) == 1
    policy = Policy.load(str(tmp_path / "plain/policy"))
    assert Rule.from_policy(policy)[:2] == (0.2, 3.0)
    assert "rule_chosen" not in policy.provenance


@pytest.mark.parametrize(
    "policy",
    [
        replace(trained(), serving=DETERMINISTIC),
        trained(rule="best"),
        trained(candidates="nearest"),
        replace(trained(), critic=None, deviation=0.5),  # scored by density, which has no temperature
    ],
)
def test_a_policy_that_no_rule_changes_is_refused(policy: Policy) -> None:
    with pytest.raises(UserError, match="the serving rule has no effect on this policy"):
        choose_rule(policy, "data")


def test_the_command_saves_the_policy_and_says_what_was_tried(
    users: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(variety=0.5).save("policy")
    arguments = ["constrain", "policy", "--dataset", "data", "--output", "constrained"]
    assert prefrec(arguments) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    serving = Policy.load("constrained").serving
    header = next(number for number, line in enumerate(lines) if line[:1] == ["temperature"])
    numbers = (serving.temperature, serving.variety, serving.repetition, serving.repetition_window)
    assert lines[header + 1][:5] == [*map("{:g}".format, numbers), serving.scores]
    assert ["next:", "prefrec", "evaluate", "constrained", "--dataset", "data"] in lines
    assert Policy.load("constrained").provenance["rule_chosen"] == "lower end"
    assert prefrec(arguments) == 2
    assert (
        capsys.readouterr().err
        == "prefrec: error: constrained: already exists; choose another output folder or remove this one\n"
    )
    Path("my conf.yaml").write_text("evaluate: {model: {requests: 60}}")
    assert prefrec([*arguments[:-1], "again", "--config", "my conf.yaml"]) == 0
    assert "next: prefrec evaluate again --dataset data --config 'my conf.yaml'\n" in capsys.readouterr().out


def test_nothing_is_left_where_it_fails(
    users: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(rule="best").save("policy")
    assert prefrec(["constrain", "policy", "--dataset", "data", "--output", "constrained"]) == 2
    assert capsys.readouterr().err.startswith("prefrec: error: policy: the serving rule has no effect on this policy")
    assert not Path("constrained").exists()


def test_ray_is_started_as_by_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own start, at the first task, joins any cluster of the machine."""
    calls: list[str] = []

    class Histories:
        @staticmethod
        def remote(*arguments: object) -> None:
            calls.append("task")
            raise UserError("far enough")

    monkeypatch.setattr(model_score.PreparedDataset, "open", lambda uri: None)
    monkeypatch.setattr(model_score, "check_long_enough", lambda dataset, splits: None)
    monkeypatch.setattr(model_score, "read_histories", Histories)
    monkeypatch.setattr(model_score.runtime, "start_ray", lambda: calls.append("start"))
    with pytest.raises(UserError, match="far enough"):
        model_score.fit_score("any", "validation")
    assert calls == ["start", "task"]
