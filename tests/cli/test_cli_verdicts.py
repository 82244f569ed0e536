"""The verdicts that `prefrec evaluate` prints, and the exit status of `--strict`."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_records import made_record
from platform_desk import make_policy
from rich.console import Console

from prefrec_ray.cli.main import run
from prefrec_ray.cli.verdicts import rails_table, reasons, tried_table, verdict_table
from prefrec_ray.evaluation.results.records import Evaluation, GuardRailRecord, Record, Support
from prefrec_ray.evaluation.results.verdict import verdicts
from prefrec_ray.evaluation.selection.serving_rule import Chosen, Rule, Tried


def line(subject: str, gain: float, estimator: str = "model", **changes: object) -> Record:
    paired = {"gain_ci_low": gain - 0.1, "gain_ci_high": gain + 0.1}
    return made_record(subject, 1 + gain, estimator=estimator, **paired, **changes)


def judged(*records: Record, unsure: tuple[str, ...] = (), bundle: str | None = None) -> Evaluation:
    support = {r.subject: Support(states=0.9) for r in records}
    records += (line("random items", 0.0, role="placebo"),)
    if unsure:
        records += (line("constant action", 0.0, role="placebo", gains_by_model=(0.0, 0.0, 0.0)),)
    support |= {name: Support(states=0.2, ess=0.0123) for name in unsure}
    models = {"gains_by_model": (0.0, 0.3, 0.6), "gain_ci_low": -0.65, "gain_ci_high": 1.25}
    records += tuple(line(name, 0.3, bundle=bundle).model_copy(update=models) for name in unsure)
    evaluation = Evaluation(records=records, support=support)
    return evaluation.model_copy(update={"verdicts": verdicts(evaluation)})


def printed(evaluation: Evaluation) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(verdict_table(evaluation))
    return [" ".join(text.split()) for text in out.getvalue().splitlines()]


def test_one_row_a_guard_rail() -> None:
    rail = {"rail": "exposure[b] >= 5 %", "value": 0.04, "allowed": 0.05, "low": -0.02, "high": -0.005}
    rails = (
        GuardRailRecord(**rail, status="broken"),
        GuardRailRecord(rail="depth >= -5 %", status="open"),
    )
    out = io.StringIO()
    Console(file=out, width=200).print(rails_table(Evaluation(records=(), guard_rails={"p": rails})))
    assert [" ".join(text.split()) for text in out.getvalue().splitlines()] == [
        "policy guard-rail found status",
        "p exposure[b] >= 5 % 4.0 % [3.0, 4.5] broken",
        "p depth >= -5 % not measured open",
    ]


def test_broken_guard_rails_are_a_column_of_tried_rules_if_there_are_any() -> None:
    rule = Rule(0.2, 1.0, 0.0, 30, "q")
    tried = Tried(rule, support=0.8, gain=0.2, low=0.1)
    for broken, width in (((), 8), (("depth >= -5 %",), 9)):
        table = tried_table(Chosen(make_policy(), [tried, replace(tried, broken=broken)]))
        assert len(table.columns) == width
    assert list(table.columns[-1].cells)[1].plain == "1"


def test_one_row_a_policy_best_first() -> None:
    made = {"rule": "best", "scores": "q", "temperature": 0.2}
    good = line("[b]good", 0.4, mean_revisit_hours=18.25, mean_depth=7.0, provenance=made)
    evaluation = judged(line("bad", -0.4), good, line("same", 0.0), unsure=("lost",))
    assert printed(evaluation) == [
        "policy verdict gain by model support effective sample h to next session impressions per session",
        "[b]good candidate +0.40 [+0.30, +0.50] 90% – 18.2 7.0",
        "same no difference +0.00 [-0.10, +0.10] 90% – – –",
        "lost inconclusive +0.30 [-0.65, +1.25] 20% 1.2% – –",
        "bad do not ship -0.40 [-0.50, -0.30] 90% – – –",
    ]
    texts = [str(text) for text in reasons(evaluation)]
    assert texts[2] == (
        "lost: Gain over the logged items by a model of users: +0.30 [-0.65, +1.25] levels; models of users disagree "
        "(+0.00 to +0.60): the log does not show the effect."
    )
    assert texts[0].startswith("[b]good (rule best, scores q): ")
    assert len(texts) == 4


def test_columns_of_which_nothing_is_known_are_left_out() -> None:
    one = Evaluation(records=(line("p", 0.4, "ncis"), line("q", 0.0, "dr")))
    one = one.model_copy(update={"verdicts": verdicts(one)})
    assert printed(one) == [
        "policy verdict gain by dr or ncis",
        "q no difference +0.00 [-0.10, +0.10] dr",
        "p inconclusive +0.40 [+0.30, +0.50] ncis",
    ]


def test_of_many_policies_the_reasons_are_in_the_file() -> None:
    many = judged(*(line(f"p{i}", 0.4) for i in range(13)))
    assert len(reasons(many)) == 1


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Callable[[Evaluation], None]:
    """Makes `prefrec evaluate` find this evaluation."""

    def gives(evaluation: Evaluation) -> None:
        monkeypatch.setattr("prefrec_ray.evaluation.run.run_evaluation", lambda *arguments: evaluation)

    return gives


def test_strict_is_the_exit_status(evaluated: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "POLICY", "--dataset", "DATASET", "--output", str(tmp_path / "evaluation.json")]
    evaluated(judged(line("good", 0.4), line("better", 0.5)))
    assert run([*command, "--strict"]) == 0
    for other in (judged(line("good", 0.4), line("same", 0.0)), judged(line("good", 0.4), unsure=("lost",))):
        evaluated(other)
        assert run([*command, "--strict"]) == 1
        assert run(command) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("✓ evaluation") == 5
    assert run(["evaluate", "POLICY", "--dataset", "DATASET", "--strict", "--split", "train"]) == 2


def test_the_help_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run(["evaluate", "--help"])
    assert "status 1 unless every verdict is candidate" in " ".join(capsys.readouterr().out.replace("│", " ").split())
