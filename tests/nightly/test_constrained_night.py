"""A night whose policy the log cannot vouch for is judged again, under a rule that it can vouch for."""

from pathlib import Path
from typing import Any

import pytest
from platform_desk import make_policy

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.constrain import Constrained
from prefrec_ray.evaluation.records import Evaluation, Support
from prefrec_ray.evaluation.run import EvaluationRun
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.nightly import work
from prefrec_ray.nightly.work import Stages
from prefrec_ray.policy import Policy
from prefrec_ray.runs.settings import TrainSettings


@pytest.mark.parametrize(
    ("states", "fails", "judged"), [(0.9, False, [1]), (0.5, False, [1, 2]), (0.5, True, [1])], ids=str
)
def test_it_is_judged_again_where_the_log_cannot_vouch(
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
            raise UserError("policy: the log vouches for 70% of its states at most")
        return Constrained(policy, ())

    monkeypatch.setattr(work, "run_evaluation", evaluate)
    monkeypatch.setattr(work, "constrain", constrain)
    run = tmp_path / "run"
    make_policy().save(str(run / "policy"))
    source = PrepareSettings.model_validate({"source": {"kind": "simulator", "path": "logs"}})
    stages = Stages(source, TrainSettings(), EvaluateSettings(), "loop.yaml", lambda *_: None)
    stages.evaluate("dataset", str(run), [])
    assert [len(one.policies) for one in runs] == judged
    assert [one.policies[0] for one in runs] == [str(run / "policy")] * len(runs)
    assert runs[-1].policies[1:] == [str(run / "constrained")] * (judged[-1] - 1)
    assert searches == ["dataset"] * (states < 0.8)
    stages.evaluate("dataset", str(run), [])  # after a kill
    assert searches == ["dataset"] * (states < 0.8) * (1 + fails)
