"""The networks of a night at other varieties: which there are, what they share, and when they are judged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_desk import make_policy

from prefrec_ray.evaluation.records import Evaluation, Support
from prefrec_ray.evaluation.run import EvaluationRun
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.nightly.vary import vary
from prefrec_ray.nightly.work import Stages
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.prepare.settings import PrepareSettings
from prefrec_ray.runs.settings import TrainSettings


def saved(folder: Path, serving: ServingSettings) -> str:
    policy = make_policy(serving=serving)
    policy.save(str(folder / "run" / "policy"))
    return str(folder / "run" / "policy")


def test_the_same_networks_at_each_larger_variety(tmp_path: Path) -> None:
    bundle = saved(tmp_path, ServingSettings(variety=4.0))
    varied = vary(bundle, str(tmp_path / "varied"))
    assert varied == [str(tmp_path / "varied" / name) for name in ("6", "12")]
    own, others = Policy.load(bundle), [Policy.load(one) for one in varied]
    assert [other.serving for other in others] == [
        own.serving.model_copy(update={"variety": variety}) for variety in (6.0, 12.0)
    ]
    states = np.random.default_rng(0).normal(size=(5, own.state.width)).astype(np.float32)
    nearby = np.broadcast_to(own.items.embeddings, (5, *own.items.embeddings.shape))
    assert own.critic is not None
    for other in others:
        assert other.critic is not None
        np.testing.assert_array_equal(other.critic.scores(states, nearby), own.critic.scores(states, nearby))
    assert vary(bundle, str(tmp_path / "varied")) == varied  # after a kill


@pytest.mark.parametrize("serving", [ServingSettings(variety=12.0), DETERMINISTIC])
def test_none_above_the_largest_and_of_the_rule_best(tmp_path: Path, serving: ServingSettings) -> None:
    assert vary(saved(tmp_path, serving), str(tmp_path / "varied")) == []
    assert not (tmp_path / "varied").exists()


@pytest.mark.parametrize(("states", "judged"), [(0.9, [1]), (0.5, [1, 4])])
def test_they_are_judged_where_the_log_cannot_vouch(
    states: float, judged: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EvaluationRun] = []

    def found(run: EvaluationRun, progress: Any) -> Evaluation:
        asked.append(run)
        return Evaluation(records=(), support={"own": Support(states=states, threshold=0.8, supported=states >= 0.8)})

    monkeypatch.setattr("prefrec_ray.nightly.work.run_evaluation", found)
    saved(tmp_path, ServingSettings(variety=1.0))
    source = PrepareSettings.model_validate({"source": {"kind": "simulator", "path": "logs"}})
    stages = Stages(source, TrainSettings(), EvaluateSettings(), "loop.yaml", lambda *_: None)
    stages.evaluate("dataset", str(tmp_path / "run"), [])
    assert [len(run.policies) for run in asked] == judged
    assert all(run.policies[0] == str(tmp_path / "run" / "policy") for run in asked)
