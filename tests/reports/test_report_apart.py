"""Runs whose policies were evaluated one by one, each called the same by its own evaluation, on one page."""

import json
from pathlib import Path

import pytest
from made_records import made_record

from prefrec_ray.evaluation.results.records import Evaluation, ServedItems, write_evaluation
from prefrec_ray.reports.load import load_evaluation, load_runs
from prefrec_ray.reports.page import write_report


def write_own(folder: str, bundle: str, value: float, items: int) -> None:
    """Write an evaluation of only the policy `bundle`, which serves `items` items."""
    about = {"bundle": bundle, "provenance": {"recipe": "robust"}, "task": "frequency"}
    records = (
        made_record("PrefRec", value, best="PrefRec", **about),
        made_record("shuffled:PrefRec", 1.2, "placebo", **about),
        made_record("imitation", 1.25, "control", task="frequency"),
    )
    served = {"PrefRec": ServedItems(requests=8, distinct_items=items, top_items=())}
    write_evaluation(f"{folder}/evaluation.json", Evaluation(records=records, served=served))


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def evaluated(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder runs with the runs paper and robust, each with an evaluation of its own."""
    monkeypatch.chdir(runs.parent)
    Path("runs/evaluation.json").unlink()
    write_own("runs/paper", "runs/paper/policy", 1.5, 11)
    write_own("runs/robust", "runs/robust/policy", 2.5, 12)


def test_policies_of_one_name_are_called_as_their_runs(evaluated: None) -> None:
    """The second was taken for the first, and left out."""
    whole = load_evaluation(["runs"], load_runs(["runs"]))
    scored = {record.subject: record.value for record in whole.records}
    assert scored == {
        **{"PrefRec paper": 1.5, "shuffled:PrefRec paper": 1.2, "imitation": 1.25},
        **{"PrefRec robust": 2.5, "shuffled:PrefRec robust": 1.2},
    }
    assert {record.subject: record.best for record in whole.records if record.best} == {
        "PrefRec paper": "PrefRec paper",
        "PrefRec robust": "PrefRec robust",
    }
    assert {"PrefRec paper", "PrefRec robust"} == set(whole.verdicts) == set(whole.served)
    write_report(["runs"], "page.html")
    assert "None of 2 policies is a candidate" in Path("page.html").read_text()


def test_a_policy_that_is_no_runs_own_is_called_by_its_place(evaluated: None) -> None:
    write_own("runs", "runs/paper/constrained/", 1.7, 13)
    whole = load_evaluation(["runs"], load_runs(["runs"]))
    assert set(whole.verdicts) == {"runs/paper/constrained", "PrefRec paper", "PrefRec robust"}


def test_a_run_has_its_part_of_an_evaluation_above(runs: Path) -> None:
    file = runs / "evaluation.json"
    content = json.loads(file.read_text())
    for record in content["records"]:
        if record["subject"] in ("paper", "robust"):
            record["bundle"] = f"{runs}/{record['subject']}/policy"
    file.write_text(json.dumps({**content, "dataset": "one"}))
    whole = load_evaluation([str(runs / "paper")], load_runs([str(runs / "paper")]))
    assert [r.subject for r in whole.select("frequency", "online")] == ["paper", "imitation", "behaviour"]
    assert (set(whole.verdicts), set(whole.served), whole.dataset) == ({"paper"}, set(), "one")
    write_own(str(runs / "paper"), "paper/policy", 1.5, 11)
    file.write_text(file.read_text().replace("paper/policy", "elsewhere"))
    assert set(load_evaluation([str(runs / "paper")], load_runs([str(runs / "paper")])).verdicts) == {"PrefRec"}


def test_a_run_has_the_evaluations_of_its_other_policies(evaluated: None) -> None:
    Path("runs/paper/constrained").mkdir()
    write_own("runs/paper/constrained", "runs/paper/constrained", 1.7, 13)
    whole = load_evaluation(["runs/paper"], load_runs(["runs/paper"]))
    assert set(whole.verdicts) == {"runs/paper/constrained", "PrefRec paper"}


def test_where_no_record_tells_the_place_a_name_is_one_policy(evaluated: None) -> None:
    file = Path("runs/paper/evaluation.json")
    told = json.loads(file.read_text())
    for record in told["records"]:
        record.pop("bundle", None)
    file.write_text(json.dumps(told))
    assert list(load_evaluation(["runs"], load_runs(["runs"])).verdicts) == ["PrefRec"]
