"""The steps of a night call the stages, and with which arguments."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from platform_desk import Desk, make_policy

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.run import EvaluationRun
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.nightly import work
from prefrec_ray.nightly.release import look
from prefrec_ray.nightly.settings import CanarySettings
from prefrec_ray.nightly.work import Stages
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.serving.folder.opened import arms_event
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.serving.settings import Canary
from prefrec_ray.storage.alias import point


def test_each_step_runs_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    for stage in ("prepare", "start_run", "write_report", "compact", "count", "average"):
        monkeypatch.setattr(
            work, stage, lambda *given, stage=stage, **named: calls.append((stage, *given)) or SimpleNamespace()
        )
    monkeypatch.setattr(work.runtime, "start_ray", lambda: None)
    evaluations: list[EvaluationRun] = []
    monkeypatch.setattr(work, "run_evaluation", lambda run, _: evaluations.append(run) or Evaluation(records=()))
    settings = PrepareSettings.model_validate({"source": {"kind": "events", "path": ["one", "two"]}, "seed": 5})
    run = str(tmp_path / "run")
    stages = Stages(settings, TrainSettings(), EvaluateSettings(), "loop.yaml", lambda *_: None)
    stages.prepare("dataset", ((3, 9),))
    stages.train("dataset", run, None)
    (tmp_path / "run").mkdir()
    make_policy(serving=ServingSettings(rest_days=3.0)).save(str(tmp_path / "current"))
    stages.train("dataset", run, str(tmp_path / "current"))
    stages.evaluate("dataset", run, ["nights/1/run", "nights/2/run"], None)
    stages.report(run, "report.html")
    stages.compact(7.0)
    (evaluated,) = evaluations
    assert (evaluated.replace, evaluated.needs_current) == (True, False)
    (_, prepared, *_), (_, measured, *first), (_, kept, *second), *others = calls
    assert prepared.source.without == ((3, 9),)
    assert first[:3] == ["dataset", run, False]
    assert second[:3] == ["dataset", run, True]  # after a kill
    assert measured.config == {}
    assert kept.config == {"serving": {"rest_days": 3.0}}
    assert others == [
        ("average", f"{run}/policy", ["nights/1/run/policy", "nights/2/run/policy"], "dataset", f"{run}/averaged"),
        ("write_report", [run], "report.html"),
        ("compact", "one", 7.0),
        ("compact", "two", 7.0),
    ]


def test_a_night_of_a_joined_source_counts_and_excludes_only_events(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    for stage in ("prepare", "compact", "count"):
        monkeypatch.setattr(work, stage, lambda *given, stage=stage: calls.append((stage, *given)))
    monkeypatch.setattr(work.runtime, "start_ray", lambda: None)
    history = {"kind": "files", "path": "a.csv", "user": "u", "item": "i", "time": "t"}
    sources = [history, {"kind": "events", "path": ["one", "two"]}]
    settings = PrepareSettings.model_validate({"source": {"kind": "joined", "sources": sources}})
    stages = Stages(settings, TrainSettings(), EvaluateSettings(), "loop.yaml", lambda *_: None)
    assert stages.leaves_out
    assert len(stages.ranges) == 2
    stages.count(stages.ranges)
    stages.prepare("dataset", ((3, 9),))
    stages.compact(7.0)
    (_, counted, *_), (_, prepared, *_), *compacted = calls
    assert counted == settings.source.sources[1]
    assert prepared.source.sources[0] == settings.source.sources[0]
    assert prepared.source.sources[1].without == ((3, 9),)
    assert prepared.source.sources[1].paths == ("one", "two")
    assert [call[1] for call in compacted] == ["one", "two"]


@pytest.mark.parametrize(("effect", "decision"), [(3.0, "promote"), (1 / 3, "withdraw"), (1.0, "extend")])
def test_a_look_at_the_log_of_a_server_decides_by_its_users(tmp_path: Path, effect: float, decision: str) -> None:
    """Users come back every 12 hours before the canary, and `effect` times as often with it."""
    for night in (1, 2):
        make_policy(seed=night).save(str(tmp_path / f"nights/{night}"))
    about = {"night": 2, "target": "nights/2", "share": 0.5, "began": 0}
    point(str(tmp_path / "current"), "nights/1", canary=None)
    hour, start, users = 3_600_000, 1_700_000_000_000, range(120)

    def visits(desk: Desk, first: int, last: int, effect_of: Callable[[str], float]) -> None:
        """Let every user come from hour `first` to hour `last`."""
        due = {user: float(first) for user in users}
        for clock in range(first, last):
            now = [user for user in users if due[user] <= clock]
            if not now:
                continue
            at = start + clock * hour
            shown = desk.do(*(Recommend(user=user, k=1, timestamp=at) for user in now), clock=at)
            bodies = [reply.body for reply in shown]
            desk.do(*(Feedback(event_id=body["event_id"], feedback={}) for body in bodies), clock=at)
            for user, body in zip(now, bodies, strict=True):
                due[user] = clock + 12 / effect_of(body["arm"])

    desk = Desk(tmp_path / "current", tmp_path / "state")
    desk.engine.log.commit([arms_event(desk.engine.state, start)])
    desk.engine.state.next += 1
    visits(desk, 0, 240, lambda arm: 1.0)
    desk.stop()
    canary = Canary.model_validate(about)
    source = {"source": {"kind": "events", "path": str(tmp_path / "state")}}
    stages = Stages(PrepareSettings.model_validate(source), TrainSettings(), EvaluateSettings(), "loop.yaml")
    settings = CanarySettings(days=3.0, lost=0.3)  # 120 users cannot show a smaller loss
    assert stages.compare(canary, str(tmp_path / "nights/2"), settings) is None  # the server was not reloaded
    point(str(tmp_path / "current"), "nights/1", canary=about)
    desk = Desk(tmp_path / "current", tmp_path / "state")
    desk.engine.log.commit([arms_event(desk.engine.state, start + 240 * hour)])
    desk.engine.state.next += 1
    visits(desk, 240, 400, lambda arm: effect if arm == "night-2" else 1.0)
    desk.stop()
    found = look(canary, stages.compare(canary, str(tmp_path / "nights/2"), settings), settings, 0)
    assert found.decision == decision, found.line
    assert (found.users + found.main_users, 45 < found.users < 75) == (120, True)
