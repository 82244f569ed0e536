"""Serving rules with support by the log: the choice, unchanged settings, and refused policies."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from platform_desk import make_policy

from prefrec_ray.cli.main import run as prefrec
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.selection import constrain as module
from prefrec_ray.evaluation.selection import model_score
from prefrec_ray.evaluation.selection.constrain import constrain
from prefrec_ray.evaluation.settings import ModelSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import DETERMINISTIC, Policy


def trained(**serving: Any) -> Policy:
    return make_policy(serving=ServingSettings(**serving), provenance={"task": "depth", "method": "PrefRec"})


@pytest.fixture
def users(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of a model of users a law: both numbers add to the support, each at its own price."""

    class Law:
        def rolled(self, policy: Policy, task: str) -> tuple[float, float]:
            temperature, variety = policy.serving.temperature, float(policy.serving.variety)
            support = 1 - math.exp(-temperature - variety / 4)
            return 4 - 2.0 * temperature - 0.1 * variety, support

    def fit(uri: str, split: str, model: ModelSettings) -> ray.ObjectRef:
        assert (uri.rpartition("/")[2], split) == ("data", "validation")
        return ray.put(Law())

    monkeypatch.setattr(module, "fit_score", fit)
    monkeypatch.setattr(module, "adapted", lambda policy, *_: policy)
    monkeypatch.setattr(module.PreparedDataset, "open", lambda uri: SimpleNamespace(items=tuple))


@pytest.mark.parametrize("variety", [0.0, 2.5, 3.5, 5.0])
@pytest.mark.parametrize("temperature", [0.05, 0.15, 0.9])
def test_of_all_rules_that_are_vouched_for_the_one_of_the_highest_level(
    users: None, temperature: float, variety: float
) -> None:
    policy = trained(temperature=temperature, variety=variety)
    hotter = [t for t in (temperature, 0.3, 0.6, 1.2) if t >= temperature]
    rules = [(t, v) for t in hotter for v in (variety, 2.0, 3.0, 4.5, 6.0, 9.0, 12.0) if v >= variety]
    vouched = [(t, v) for t, v in rules if 1 - math.exp(-t - v / 4) >= 0.9]
    wanted = max(vouched, key=lambda rule: 4 - 2.0 * rule[0] - 0.1 * rule[1])
    constrained = constrain(policy, "data")
    assert (constrained.policy.serving.temperature, constrained.policy.serving.variety) == wanted
    assert {(one.temperature, one.variety) for one in constrained.tried} <= set(rules)
    assert len(constrained.tried) <= 1 + 3 * len(hotter)  # three for seven varieties
    same = constrained.policy.serving.model_copy(update={"temperature": temperature, "variety": variety})
    assert same == policy.serving
    assert constrained.policy.critic is not None
    assert policy.critic is not None
    states = np.random.default_rng(0).normal(size=(5, policy.state.width)).astype(np.float32)
    items = np.broadcast_to(policy.items.embeddings, (5, *policy.items.embeddings.shape))
    np.testing.assert_array_equal(constrained.policy.critic.scores(states, items), policy.critic.scores(states, items))


def test_a_policy_that_the_log_vouches_for_stays_as_it_is(users: None) -> None:
    policy = trained(variety=9.0)
    constrained = constrain(policy, "data")
    assert constrained.policy == replace(policy, provenance={**policy.provenance, "constrained": True})
    assert len(constrained.tried) == 1


def test_where_no_rule_is_vouched_for_it_says_how_far_they_come(users: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VARIETIES", (2.0,))
    message = r"at most 82% of its states are supported by the log, at temperature 1.2 and variety 2; expected 90%"
    with pytest.raises(UserError, match=message):
        constrain(trained(variety=0.5), "data")


@pytest.mark.parametrize(
    "policy",
    [
        replace(trained(), serving=DETERMINISTIC),
        trained(rule="best"),
        trained(candidates="nearest"),
        replace(trained(), critic=None, deviation=0.5),  # scored by density, which has no temperature
    ],
)
def test_a_policy_that_the_two_numbers_do_not_change_is_refused(policy: Policy) -> None:
    with pytest.raises(UserError, match="temperature and variety have no effect on this policy"):
        constrain(policy, "data")


def test_the_command_saves_the_policy_and_says_what_was_tried(
    users: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(variety=0.5).save("policy")
    arguments = ["constrain", "policy", "--dataset", "data", "--output", "constrained"]
    assert prefrec(arguments) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    serving = Policy.load("constrained").serving
    assert [f"{serving.temperature:g}", f"{serving.variety:g}"] in [line[:2] for line in lines]
    assert ["next:", "prefrec", "evaluate", "constrained", "--dataset", "data"] in lines
    assert Policy.load("constrained").provenance["constrained"]
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
    assert capsys.readouterr().err.startswith(
        "prefrec: error: policy: temperature and variety have no effect on this policy"
    )
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
