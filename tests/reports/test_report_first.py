"""The first screen: verdicts, lights with numbers, facts; whatever names hold, they are text."""

import base64
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

from prefrec_ray.evaluation.records import Evaluation
from prefrec_ray.evaluation.verdict import verdicts
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.reports import html
from prefrec_ray.reports.catalogue import MOST_BYTES, Item, named_items, picture
from prefrec_ray.reports.first import LEGEND, SHOWN, first_screen
from prefrec_ray.reports.load import load_evaluation, load_runs

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def judged(unchanged_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    folder = tmp_path_factory.mktemp("judged") / "runs"
    shutil.copytree(unchanged_runs, folder)
    write_verdicts(folder)
    return written(folder)


def test_each_policy_is_one_row_best_first(judged: tuple[str, Page]) -> None:
    text, document = judged
    assert document.texts["h2"][0] == "1 of 5 policies is a candidate for an A/B test"
    assert document.texts["h3"] == [CANDIDATE, SAME, FEW, LOST, WORSE]
    verdicts = [line for line in document.texts["span"] if line in ("the log cannot say", "do not ship")]
    assert verdicts == ["the log cannot say", "the log cannot say", "do not ship"]
    assert text.count('<span class="lamp"') == 5 * 5
    assert text.count('<svg class="bar"') == 4  # no value, no bar
    lines = document.texts["p"]
    for line in (
        "+0.42 [+0.30, +0.54] levels",
        "18.2 h to the next session (logging policy 21.4)",
        "7.3 requests a session (logging policy 6.1)",
        "82% of states, 60% needed",
        "12% of states, 60% needed",
        "4 items take 100% of requests",
        "True gain in the simulator: -0.89 [-0.99, -0.79] levels",
        "PrefRec, recipe robust, rule sample, mean Q of 2 nights, for frequency",
        "PrefRec, recipe robust, rule best, for frequency",
    ):
        assert line in lines
    assert "100" in document.texts["span"]
    assert "4.0%" in document.texts["span"]


def test_how_items_are_drawn_is_part_of_what_a_policy_is() -> None:
    """A run's policy and what `constrain` makes of it differ in nothing else."""
    made = {"recipe": "robust", "rule": "sample", "temperature": 0.2, "variety": 9.0}
    alone = Evaluation(records=(made_record("p", 1.5, method="PrefRec", provenance=made),))
    screen = first_screen(alone.model_copy(update={"verdicts": verdicts(alone)}), [])
    assert screen.rows[0].about == "PrefRec, recipe robust, rule sample, temperature 0.2, variety 9, for depth"


def test_no_estimate_is_shown_of_what_the_log_cannot_vouch_for(judged: tuple[str, Page]) -> None:
    text, document = judged
    assert f"The log cannot say, so that no estimate is shown: {LOST}." in document.texts["p"]
    assert "4.65" not in text


def test_the_facts_say_what_when_and_how_sure(judged: tuple[str, Page]) -> None:
    _, document = judged
    facts = dict(zip(document.texts["dt"], document.texts["dd"], strict=True))
    assert re.fullmatch(r"PrefRec paper, PrefRec robust \(\d{4}-\d\d-\d\d\)", facts["Trained"])
    assert facts["On"] == "such/dataset (not there any more)"
    assert re.fullmatch(r"test users, who were not trained on \(\d{4}-\d\d-\d\d\)", facts["Judged on"])
    assert facts["How sure"] == "intervals of 95 % over 300 users (4,000 sessions), by a model of the users"
    assert facts.keys() >= dict(LEGEND).keys()


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
    assert ATTACK in document.texts["span"]
    assert "49" not in document.texts["h3"]
    titles = {101: Item(ATTACK, picture="")}
    evaluation = load_evaluation([str(runs)], load_runs([str(runs)]))
    page = html.document(ATTACK, [first_screen(evaluation, [(ATTACK, ATTACK)], titles)])
    assert "<script" not in page
    assert ATTACK in Page(page).texts["span"]


def test_an_older_file_gets_its_verdicts_from_its_records(runs: Path) -> None:
    evaluation = load_evaluation([str(runs)], load_runs([str(runs)]))
    assert {name: verdict.verdict for name, verdict in evaluation.verdicts.items()} == {
        "robust": "cannot_say",
        "paper": "no_difference",
    }


def test_of_many_policies_the_first_are_shown(runs: Path) -> None:
    content = write_verdicts(runs)
    content["support"] |= {f"other {i}": content["support"][LOST] for i in range(SHOWN)}
    (runs / "evaluation.json").write_text(json.dumps(content))
    _, document = written(runs)
    assert len(document.texts["h3"]) == SHOWN + 5
    assert "5 more" in document.texts["summary"]


def test_templates_are_part_of_the_package() -> None:
    names = {file.name for file in files("prefrec_ray.reports").joinpath("templates").iterdir()}
    assert names == {"page.html", "blocks.html", "first.html", "style.css"}


def test_no_module_of_the_package_writes_markup() -> None:
    for file in Path(str(files("prefrec_ray.reports"))).rglob("*.py"):
        assert not re.search(r"</?[a-z][a-z0-9]*( [a-z]+=[^>]*)?>", file.read_text("utf-8")), file.name


PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def test_titles_and_pictures_of_items_are_on_the_page(runs: Path) -> None:
    write_verdicts(runs)
    (runs / "tea.png").write_bytes(PNG)
    (runs / "robust" / "policy").mkdir()
    about = pa.table({"title": ["Tea", ATTACK, None], "image": [str(runs / "tea.png"), str(runs / "none"), None]})
    table = ItemTable(np.array([100, 101, 102]), np.zeros((3, 2)), about=about)
    table.save(str(runs / "robust" / "policy" / "items.parquet"))
    text, document = written(runs)
    spans = document.texts["span"]
    assert {"Tea", ATTACK, "102"} <= set(spans)
    data = base64.b64encode(PNG).decode()
    assert text.count(f'<img alt="" src="data:image/png;base64,{data}">') == 2  # of the two policies that serve it
    assert document.fetched == []
    assert "<script" not in text


def test_only_pictures_become_pictures(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for content in (b"root:x:0:0", b"<svg onload='alert(1)'>", b"", PNG + bytes(MOST_BYTES)):
        file.write_bytes(content)
        assert picture(str(file)) == ""
    for uri in (str(tmp_path), str(tmp_path / "none"), "https://example.com/a.png", "file://?", "a\0b", ""):
        assert picture(uri) == ""
    file.write_bytes(b"\xff\xd8\xff\xe0")
    assert picture(str(file)).startswith("data:image/jpeg;base64,")


def test_a_table_of_other_items_has_no_titles(tmp_path: Path) -> None:
    ItemTable(np.array(["a"]), np.zeros((1, 2)), about=pa.table({"title": ["A"]})).save(f"{tmp_path}/items.parquet")
    assert named_items([str(tmp_path), f"{tmp_path}/none"], [3, 4]) == {}
    assert named_items([str(tmp_path)], ["a", "b"]) == {"a": Item("A")}
    (tmp_path / "items.parquet").write_text("damaged")
    assert named_items([str(tmp_path)], ["a"]) == {}
