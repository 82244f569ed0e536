"""The first screen: verdicts, lights with numbers, facts; names are always text."""

import json
import re
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from four_verdicts import CANDIDATE, FEW, LOST, SAME, WORSE, write_verdicts
from made_records import made_record
from test_report_page import Page, written

from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.results.verdict import VERDICTS, verdicts
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.reports import html
from prefrec_ray.reports.first import SHOWN, first_screen
from prefrec_ray.reports.load import item_titles, load_evaluation, load_runs

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def judged(unchanged_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    folder = tmp_path_factory.mktemp("judged") / "runs"
    shutil.copytree(unchanged_runs, folder)
    write_verdicts(folder)
    return written(folder)


@pytest.mark.parametrize(("over", "reference"), [({}, "logging"), ({"gain_over_current": 0.1}, "current")])
def test_each_guard_rail_is_one_row_of_a_card(
    unchanged_runs: Path, tmp_path: Path, over: dict[str, float], reference: str
) -> None:
    shutil.copytree(unchanged_runs, folder := tmp_path / "runs")
    content = write_verdicts(folder)
    for record in content["records"]:
        if record["subject"] == FEW:
            record |= over
    kept = {"rail": "exposure[<b>] <= 10 %", "value": 0.06, "allowed": 0.1, "low": -0.05, "high": -0.02}
    broken = {"rail": "feedback.like >= -2 %", "value": 0.36, "allowed": 0.392, "low": -0.04, "high": -0.02}
    rails = [{**broken, "status": "broken"}, {**kept, "status": "kept"}]
    (folder / "evaluation.json").write_text(json.dumps({**content, "guard_rails": {FEW: rails}}))
    text, document = written(folder)
    assert document.texts["caption"] == [f"Guard-rails: changes from the {reference} policy, or shares"]
    cells = [cell for cell in document.texts["td"] if cell.startswith(("feedback", "exposure", "-10", "6.0 %"))]
    assert cells == ["feedback.like >= -2 %", "-10.0 % [-12.0, -7.0]", "exposure[<b>] <= 10 %", "6.0 % [5.0, 8.0]"]
    assert "Guard-rail broken: feedback.like >= -2 %: -10.0 % [-12.0, -7.0]." in text.replace("&gt;", ">")


def test_each_policy_is_one_row_best_first(judged: tuple[str, Page]) -> None:
    text, document = judged
    assert document.texts["h2"][0] == "1 of 5 policies is a candidate for an A/B test"
    assert document.texts["h3"] == [CANDIDATE, SAME, FEW, LOST, WORSE]
    verdicts = [line for line in document.texts["span"] if line in ("inconclusive", "do not ship")]
    assert verdicts == ["inconclusive", "inconclusive", "do not ship"]
    assert text.count('<span class="lamp"') == 5 * 4
    lines = document.texts["p"]
    for line in (
        "+0.42 [+0.30, +0.54] levels",
        "18.2 h to the next session (logged items 21.4)",
        "7.3 impressions per session (logged items 6.1)",
        "inside the scale, 0 to 5",
        "4 items take 100% of impressions",
        "True gain over the logging policy, in the simulator: -0.89 [-0.99, -0.79] levels.",
        "PrefRec, recipe robust, rule sample, mean Q of 2 nights, for frequency",
        "PrefRec, recipe robust, rule best, for frequency",
    ):
        assert line in lines
    assert "item 100" in document.texts["span"]
    assert "4.0%" in document.texts["span"]


def test_how_items_are_drawn_is_part_of_what_a_policy_is() -> None:
    """A run's policy and what `constrain` makes of it differ in nothing else."""
    made = {"recipe": "robust", "rule": "sample", "scores": "feedback", "temperature": 0.2, "variety": 9.0}
    made |= {"repetition": 0.3, "repetition_window": 30}
    rule = "rule sample, scores feedback, temperature 0.2, variety 9, repetition 0.3, repetition window 30"
    document = screen_of(Evaluation(records=(made_record("p", 1.5, method="PrefRec", provenance=made),)))
    assert f"PrefRec, recipe robust, {rule}, for depth" in document.texts["p"]


def screen_of(evaluation: Evaluation) -> Page:
    return Page(first_screen(evaluation.model_copy(update={"verdicts": verdicts(evaluation)}), []))


def test_the_facts_name_runs_data_and_users(judged: tuple[str, Page]) -> None:
    _, document = judged
    facts = dict(zip(document.texts["dt"], document.texts["dd"], strict=True))
    assert facts["Trained"] == "PrefRec paper, PrefRec robust"
    assert facts["Data set"] == "such/dataset"
    assert facts["Evaluated on"] == "test users, not used in training"
    assert facts.keys() >= {*VERDICTS.values(), "policy", "gain", "interval", "level"}


def test_what_is_risky_stands_where_the_policy_is_praised(tmp_path: Path) -> None:
    """The rule best had green ticks, and a closed section the warning."""
    content = write_verdicts(tmp_path)
    content["served"][FEW] = content["served"][CANDIDATE]
    evaluation = Evaluation.model_validate({**content, "split": "test"})
    document = screen_of(evaluation)
    assert document.texts["h3"][:2] == [FEW, CANDIDATE]  # the largest gain first
    assert document.texts["span"].count("candidate for an A/B test, with a caution") == 1
    assert sum(text.startswith("It always shows the items with the") for text in document.texts["p"]) == 2
    assert document.texts["p"][0].startswith(f"Test {CANDIDATE} on a small share of users")
    assert document.texts["pre"][0].startswith("prefrec serve RUN/policy --state STATE")


def test_what_is_next_depends_on_the_verdict() -> None:
    models = {"gains_by_model": (-0.4, 0.6, 0.5, 1.3), "gain_ci_low": -0.9, "gain_ci_high": 1.9}
    record = made_record("p", 1.5, estimator="model", **models)
    document = screen_of(Evaluation(dataset="my data", records=(record,), support={"p": {"states": 0.1, "ess": None}}))
    assert document.texts["pre"] == ["prefrec constrain RUN/policy --dataset 'my data' --output RUN/constrained"]
    control = made_record("random items", 1.0, "placebo")
    ranked = screen_of(Evaluation(records=(made_record("p", 1.5, estimator="ncis"), control)))
    assert ranked.texts["p"][0] == "Test nothing yet. Evaluate with estimators: [model, ncis]."
    assert "pre" not in ranked.texts


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        (
            {"settings": {"users": 200}, "users": 180, "users_left_out": 20},
            "Evaluate more users (evaluate.model.users)",
        ),
        ({"settings": {"users": 200}, "users": 92}, "Collect a longer log: every user of the split was evaluated."),
        ({"gain_ci_low": -0.3, "gain_ci_high": -0.1}, "Keep the logging policy. Train with another recipe"),
        ({"gain_ci_low": -0.01, "gain_ci_high": 0.01}, "Keep the logging policy: no difference that"),
        (
            {"gain_ci_low": 0.2, "gain_ci_high": 0.8, "gain_over_current": -0.2, "gain_over_current_ci": (-0.4, 0.1)},
            "Keep the current policy.",
        ),
        ({"gain_ci_low": 0.2, "gain_ci_high": 0.8, "settings": {"logged_level": 1.3}}, "do not reproduce the level"),
    ],
)
def test_what_is_next_is_from_the_check_that_failed(changes: dict[str, object], step: str) -> None:
    record = made_record("p", 1.25, **{"estimator": "model", "gain_ci_low": -0.5, "gain_ci_high": 1.0, **changes})
    control = made_record("random items", 1.0, "placebo", estimator="model")
    document = screen_of(Evaluation(records=(record, control)))
    assert step in document.texts["p"][0]
    assert "pre" not in document.texts


def test_the_rate_that_was_measured_is_on_the_page(judged: tuple[str, Page]) -> None:
    """No page promises 95 % for intervals that do not have it."""
    text, document = judged
    assert "95 %" not in text
    facts = dict(zip(document.texts["dt"], document.texts["dd"], strict=True))
    assert "66 of 78 simulated logs the interval contained the true gain over the logged items" in facts["interval"]
    assert any("41 of 52 simulated logs with a candidate" in line for line in document.texts["p"])


def test_the_rest_is_folded(judged: tuple[str, Page]) -> None:
    text, document = judged
    assert text.count("<details><summary><h2>") == len(document.texts["h2"]) - 1


def test_what_names_hold_is_text(runs: Path) -> None:
    content = write_verdicts(runs)
    content["records"][0]["subject"] = ATTACK
    content["records"][1]["method"] = ATTACK
    content["records"][1]["provenance"]["recipe"] = ATTACK
    content["served"][ATTACK] = content["served"].pop(CANDIDATE)
    content["served"][ATTACK]["top_items"][0]["item_id"] = ATTACK
    content["support"][ATTACK] = content["support"].pop(CANDIDATE)
    (runs / "evaluation.json").write_text(json.dumps(content))
    config = json.loads((runs / "paper" / "config.json").read_text())
    (runs / "paper" / "config.json").write_text(json.dumps({**config, "recipe": ATTACK, "dataset": ATTACK}))
    text, document = written(runs)
    assert "<script" not in text
    assert "<img src=x" not in text
    assert not re.search(r"<[^>]*onerror=alert", re.sub(r'"[^"]*"', '""', text))
    assert ATTACK in document.texts["h3"]
    assert f"item {ATTACK}" in document.texts["span"]
    assert "49" not in document.texts["h3"]
    titles = {101: ATTACK}
    evaluation = load_evaluation([str(runs)], load_runs([str(runs)]))
    page = html.document(ATTACK, [first_screen(evaluation, [(ATTACK, ATTACK)], titles)])
    assert "<script" not in page
    assert ATTACK in Page(page).texts["span"]


def test_an_older_file_gets_its_verdicts_from_its_records(runs: Path) -> None:
    evaluation = load_evaluation([str(runs)], load_runs([str(runs)]))
    assert {name: verdict.verdict for name, verdict in evaluation.verdicts.items()} == {
        "robust": "inconclusive",
        "paper": "inconclusive",
    }


def test_a_verdict_of_an_older_file_is_shown_as_it_is(runs: Path) -> None:
    """Also a `no_difference` that is inconclusive today. The light of the support is left out."""
    content = json.loads((runs / "evaluation.json").read_text())
    lights = [{"name": name, "colour": "amber", "number": f"of {name}"} for name in ("value", "support", "controls")]
    old = {"verdict": "no_difference", "reasons": ["An interval that contains 0."], "lights": lights}
    (runs / "evaluation.json").write_text(json.dumps({**content, "verdicts": {"paper": old, "robust": old}}))
    _, document = written(runs)
    assert document.texts["span"].count("no difference that matters") == 2
    assert document.texts["p"].count("An interval that contains 0.") == 2
    assert {"of value", "of controls"} <= set(document.texts["p"])
    assert "of support" not in document.texts["p"]


def test_of_many_policies_the_first_are_shown(runs: Path) -> None:
    content = write_verdicts(runs)
    content["support"] |= {f"other {i}": content["support"][LOST] for i in range(SHOWN)}
    (runs / "evaluation.json").write_text(json.dumps(content))
    _, document = written(runs)
    assert len(document.texts["h3"]) == SHOWN + 5
    assert "5 more" in document.texts["summary"]


def test_templates_are_part_of_the_package() -> None:
    names = {file.name for file in files("prefrec_ray.reports").joinpath("templates").iterdir()}
    assert names == {"page.html", "blocks.html", "style.css"}


def test_no_module_of_the_package_writes_markup() -> None:
    for file in Path(str(files("prefrec_ray.reports"))).rglob("*.py"):
        assert not re.search(r"</?[a-z][a-z0-9]*( [a-z]+=[^>]*)?>", file.read_text("utf-8")), file.name


def test_titles_of_items_are_on_the_page(runs: Path) -> None:
    write_verdicts(runs)
    (runs / "robust" / "policy").mkdir()
    table = ItemTable(np.array([100, 101, 102]), np.zeros((3, 2)), about=pa.table({"title": ["Tea", ATTACK, None]}))
    table.save(str(runs / "robust" / "policy" / "items.parquet"))
    text, document = written(runs)
    assert {"Tea", ATTACK, "item 102"} <= set(document.texts["span"])
    assert "<script" not in text


def test_a_table_of_other_items_has_no_titles(tmp_path: Path) -> None:
    ItemTable(np.array(["a"]), np.zeros((1, 2)), about=pa.table({"title": ["A"]})).save(f"{tmp_path}/items.parquet")
    assert item_titles([str(tmp_path), f"{tmp_path}/none"], [3, 4]) == {}
    assert item_titles([str(tmp_path)], ["a", "b"]) == {"a": "A"}
    (tmp_path / "items.parquet").write_text("damaged")
    assert item_titles([str(tmp_path)], ["a"]) == {}
