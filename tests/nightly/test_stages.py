"""The steps of a night call the stages: with which arguments, and again under a rule with support."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from platform_desk import make_policy

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.records import Evaluation, Support
from prefrec_ray.evaluation.run import EvaluationRun
from prefrec_ray.evaluation.selection.constrain import Constrained
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.nightly import work
from prefrec_ray.nightly.work import Stages
from prefrec_ray.policy import Policy
from prefrec_ray.runs.settings import TrainSettings


@pytest.mark.parametrize(
    ("states", "fails", "judged"), [(0.9, False, [1]), (0.5, False, [1, 2]), (0.5, True, [1])], ids=str
)
def test_a_policy_without_support_is_evaluated_again_under_a_rule_with_support(
    states: float, fails: bool, judged: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[EvaluationRun] = []
    searches: list[str] = []

    def evaluate(run: EvaluationRun, progress: Any) -> Evaluation:
        runs.append(run)
        return Evaluation(records=(), support={"own": Support(states=states, threshold=0.8, supported=states >= 0.8)})

    def constrain(policy: Policy, dataset: str, progress: Any) -> Constrained:
        searches.append(dataset)
        if fails:
            raise UserError("policy: at most 70% of its states are supported by the log")
        return Constrained(policy, ())

    monkeypatch.setattr(work, "run_evaluation", evaluate)
    monkeypatch.setattr(work, "constrain", constrain)
    run = tmp_path / "run"
    make_policy().save(str(run / "policy"))
    (run / "constrained").mkdir()  # a kill in an object store: without its last file, policy.json
    source = PrepareSettings.model_validate({"source": {"kind": "simulator", "path": "logs"}})
    stages = Stages(source, TrainSettings(), EvaluateSettings(), "loop.yaml", lambda *_: None)
    stages.evaluate("dataset", str(run), [])
    assert [len(one.policies) for one in runs] == judged
    assert [one.policies[0] for one in runs] == [str(run / "policy")] * len(runs)
    assert runs[-1].policies[1:] == [str(run / "constrained")] * (judged[-1] - 1)
    assert searches == ["dataset"] * (states < 0.8)
    stages.evaluate("dataset", str(run), [])  # after a kill
    assert searches == ["dataset"] * (states < 0.8) * (1 + fails)


def test_each_step_runs_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    for stage in ("prepare", "start_run", "write_report", "compact", "count", "average"):
        monkeypatch.setattr(
            work, stage, lambda *given, stage=stage, **named: calls.append((stage, *given)) or SimpleNamespace()
        )
    monkeypatch.setattr(work.runtime, "start_ray", lambda: None)
    monkeypatch.setattr(work, "run_evaluation", lambda *_: Evaluation(records=()))
    settings = PrepareSettings.model_validate({"source": {"kind": "events", "path": ["one", "two"]}, "seed": 5})
    run = str(tmp_path / "run")
    stages = Stages(settings, TrainSettings(), EvaluateSettings(), "loop.yaml", lambda *_: None)
    stages.prepare("dataset", ((3, 9),))
    stages.train("dataset", run)
    (tmp_path / "run").mkdir()
    stages.train("dataset", run)
    stages.evaluate("dataset", run, ["nights/1/run", "nights/2/run"])
    stages.report(run, "report.html")
    stages.compact(7.0)
    (_, prepared, *_), (_, _, *first), (_, _, *second), *others = calls
    assert prepared.source.without == ((3, 9),)
    assert first[:3] == ["dataset", run, False]
    assert second[:3] == ["dataset", run, True]  # after a kill
    assert others == [
        ("average", f"{run}/policy", ["nights/1/run/policy", "nights/2/run/policy"], "dataset", f"{run}/averaged"),
        ("write_report", [run], "report.html"),
        ("compact", "one", 7.0),
        ("compact", "two", 7.0),
    ]
