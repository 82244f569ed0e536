"""The steps of a night call the stages, and with which arguments."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.nightly import work
from prefrec_ray.nightly.work import Stages
from prefrec_ray.runs.settings import TrainSettings


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
    stages.evaluate("dataset", run, ["nights/1/run", "nights/2/run"], None)
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
