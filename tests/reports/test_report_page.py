import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from prefrec_ray.reports import load, page
from prefrec_ray.reports.page import write_report


class Page(HTMLParser):
    """Collects headings, images and everything that a browser would fetch; refuses unmatched tags."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: dict[str, str] = {}
        self.texts: dict[str, list[str]] = {}
        self.fetched: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images[values["alt"]] = values["src"]
        self.fetched += [v for k, v in attrs if k in ("src", "href", "data") and not v.startswith("data:")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())


def written(runs: Path) -> tuple[str, Page]:
    output = runs / "report.html"
    write_report([str(runs)], str(output))
    text = output.read_text("utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def drawn(unchanged_runs: Path) -> tuple[str, Page]:
    """The page of runs whose data set is gone."""
    return written(unchanged_runs)


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the SVG of figures, for one test."""
    monkeypatch.setattr("prefrec_ray.reports.html.svg", lambda figure: b"<svg/>")


def test_the_page_holds_every_section_and_figure(drawn: tuple[str, Page]) -> None:
    _, document = drawn
    sections = ["Evaluation and its controls", "Learning curves", "Settings"]
    first = "None of 2 policies is a candidate for an A/B test"
    assert document.texts["h2"] == [first, *sections]
    names = " ".join(document.images)
    assert all(text in names for text in ("Fig. 6", "Fig. 7", "Mean Q", "Loss of V", "Saturated", "Speed", "interval"))
    assert len(document.images) == len(page.CURVES) + 2
    for source in document.images.values():
        kind, _, data = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        ElementTree.fromstring(base64.b64decode(data))


def test_the_page_fetches_nothing(drawn: tuple[str, Page]) -> None:
    text, document = drawn
    assert document.fetched == []
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)


def test_the_tables_hold_the_records(drawn: tuple[str, Page]) -> None:
    _, document = drawn
    cells = document.texts["td"]
    assert "[3.30, 3.50]" in cells


def test_names_are_escaped(runs: Path) -> None:
    file = runs / "evaluation.json"
    content = json.loads(file.read_text())
    content["records"][0]["subject"] = "<script>x"
    file.write_text(json.dumps(content))
    text, document = written(runs)
    assert "<script" not in text
    assert "<script>x" in document.texts["td"]


def test_runs_without_evaluation_say_so(runs: Path, unrendered: None) -> None:
    (runs / "evaluation.json").unlink()
    text, document = written(runs)
    assert "Not evaluated yet" in text
    assert "Evaluation and its controls" not in document.texts["h2"]


def test_shares_are_counted_over_files_and_leave_nulls_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PreparedDataset", FakeDataset)
    shares = load.level_shares("anywhere")
    assert shares["depth"].tolist() == [0.5, 0.25, 0, 0, 0, 0.25]
    assert shares["frequency"].tolist() == [0, 0.5, 0.5, 0, 0, 0]


class FakeDataset:
    """Two files of two sessions each."""

    TABLES: ClassVar = {
        "a": pa.table({"level_depth": [0.0, 1.0], "level_frequency": pa.array([1.0, None], pa.float32())}),
        "b": pa.table({"level_depth": [0.0, 5.0], "level_frequency": pa.array([2.0, None], pa.float32())}),
    }

    @classmethod
    def open(cls, uri: str) -> "FakeDataset":
        return cls()

    def files(self, *parts: str) -> list[str]:
        return ["a", "b"]

    def read(self, file: str, columns: list[str]) -> pa.Table:
        return self.TABLES[file].select(columns)


def test_a_policy_that_always_shows_the_best_is_told_to_be_a_risk(runs: Path, unrendered: None) -> None:
    file = runs / "evaluation.json"
    content = json.loads(file.read_text())
    policies = [record for record in content["records"] if record["role"] == "policy"]
    for record, rule in zip(policies, ["best", *["sample"] * len(policies)], strict=False):
        record["provenance"] = {"method": "PrefRec", "rule": rule}
    file.write_text(json.dumps(content))
    text, _ = written(runs)
    assert text.count("It always shows the items with the highest scores (rule best).") == 1
