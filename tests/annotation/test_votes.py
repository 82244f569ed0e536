"""Answers in every supported format, and errors of one line with their position."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from prefrec_ray.annotation.labels import read_votes
from prefrec_ray.cli.labels import _table
from prefrec_ray.errors import UserError

KNOWN = {11, 12, 2**48 - 1}
GOOD = [
    {"pair_id": 11, "annotator": "Ännchen", "label": "first"},
    {"pair_id": 11, "annotator": "bo", "label": "tie"},
    {"pair_id": 12, "annotator": "bo", "label": "skip"},
    {"pair_id": 2**48 - 1, "annotator": 7, "label": "second"},
    {"pair_id": 12, "annotator": "cy", "label": 0.25},
]
VOTES = [
    (11, "Ännchen", 0.0),
    (11, "bo", 0.5),
    (12, "bo", None),
    (2**48 - 1, "7", 1.0),
    (12, "cy", 0.25),
]


def rows(uri: Path) -> list[tuple[int, str, float | None]]:
    return [tuple(row.values()) for row in read_votes(str(uri), KNOWN).to_pylist()]


def write_csv(path: Path, answers: list[dict[str, Any]], columns: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(answers)
    return path


def test_every_format_says_the_same(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n\n" for row in GOOD), "utf-8")
    table = write_csv(tmp_path / "a.csv", GOOD, ["label", "annotator", "pair_id"])
    marked = tmp_path / "excel.csv"
    marked.write_text("\ufeff" + table.read_text("utf-8"), "utf-8")
    more = [{**row, "comment": "a, b"} for row in GOOD]
    with_comments = write_csv(tmp_path / "more.csv", more, ["comment", "label", "annotator", "pair_id"])
    old = tmp_path / "old.csv"
    old.write_text(table.read_text("utf-8").replace("\n", "\r"), "utf-8", newline="")
    for file in (lines, table, marked, with_comments, old):
        assert rows(file) == VOTES


def line(**changes: Any) -> str:
    return json.dumps({name: value for name, value in {**GOOD[0], **changes}.items() if value != "(leave out)"})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", "", ["0 votes", "at least one"]),
        ("a.jsonl", line(label="skip"), ["1 votes, all of them skips"]),
        ("a.jsonl", line() + "\n{pair", ["line 2: not JSON"]),
        ("a.jsonl", "[1, 2]", ["line 1: expected an object with pair_id, annotator, label"]),
        ("a.jsonl", line() + "\n" + line(pair_id=99, annotator="x"), ["line 2: unknown pair_id 99", "the 3 pairs"]),
        ("a.jsonl", line(pair_id="eleven"), ["line 1: unknown pair_id 'eleven'"]),
        ("a.jsonl", line(pair_id=None), ["line 1: pair_id is missing", "found annotator, label"]),
        ("a.jsonl", line(annotator="(leave out)"), ["line 1: annotator is missing", "found label, pair_id"]),
        ("a.jsonl", line(annotator=""), ["line 1: annotator is missing", "found label, pair_id"]),
        ("a.jsonl", line(label=None), ["line 1: label is missing"]),
        ("a.jsonl", line(label="left"), ["line 1: unknown label 'left'", "first, second, tie, skip or a number"]),
        ("a.jsonl", line(label=1.5), ["line 1: unknown label 1.5"]),
        ("a.jsonl", line(label=True), ["line 1: unknown label True"]),
        ("a.jsonl", line(label="nan"), ["line 1: unknown label 'nan'"]),
        ("a.jsonl", line() + "\n" + line(label="second"), ["line 2", "'Ännchen' votes on pair 11 again", "line 1"]),
        ("a.csv", "", ["column 'pair_id' is missing; found none"]),
        ("a.csv", "pair_id,who,label\n11,a,tie\n", ["column 'annotator' is missing; found pair_id, who, label"]),
        ("a.csv", "pair_id,annotator,label\n11,a,tie\n11,b,\n", ["line 3: label is missing"]),
        ("a.csv", "pair_id,annotator,label\n11,a\n", ["line 2: label is missing"]),
        ("a.csv", "pair_id,annotator,label\n11,a,0,5\n", ["line 2: found 4 values; expected 3"]),
        ("a.jsonl", line(annotator=" "), ["line 1: annotator ' '; expected a name or a number"]),
        ("a.csv", "pair_id,annotator,label\n11,a," + "x" * 200_000, ["a.csv: not CSV (field larger than"]),
        ("a.jsonl", line(pair_id=11.5), ["line 1: unknown pair_id 11.5"]),
        ("a.jsonl", line(pair_id=True), ["line 1: unknown pair_id True"]),
        ("a.jsonl", line()[:-1] + ', "pair_id": 1e999}', ["line 1: unknown pair_id inf"]),
        ("a.jsonl", "1" * 5000, ["line 1: not JSON"]),
        ("a.jsonl", "[" * 100_000, ["line 1: not JSON"]),
        ("a.jsonl", line(annotator=["a", "b"]), ["line 1: annotator ['a', 'b']; expected a name or a number"]),
        ("a.jsonl", line(annotator="\ud800"), ["line 1: annotator '\\ud800'"]),
        ("a.xlsx", "x", ["expected a file .jsonl or .csv", "found .xlsx"]),
    ],
)
def test_mistakes(tmp_path: Path, name: str, text: str, words: list[str]) -> None:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    with pytest.raises(UserError) as caught:
        read_votes(str(file), KNOWN)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    """Even one with markup of the terminal's, a line separator or a line feed in it."""
    names = ["anna[/x]", "b\u2028o", "c\x85y", "d\n", "[red]e"]
    file = tmp_path / "a.jsonl"
    answers = [{"pair_id": 11, "annotator": name, "label": "tie"} for name in names]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answers), "utf-8")
    assert [name for _, name, _ in rows(file)] == names
    summary = [{"annotator": name, "votes": 1, "skips": 0, "disagreement": None} for name in names]
    console = Console(file=io.StringIO(), width=200)
    console.print(_table({"annotators": summary}))
    assert "anna[/x]" in console.file.getvalue()
    assert "[red]e" in console.file.getvalue()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([11, "first"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vote=JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD[0], JSON)))
def test_whatever_is_wrong_with_a_vote_is_one_line(tmp_path: Path, vote: Any) -> None:
    """It is read, or refused by a line that begins with the file."""
    file = tmp_path / "votes.jsonl"
    file.write_text(f"{line()}\n{json.dumps(vote)}\n", "utf-8")
    try:
        read_votes(str(file), KNOWN)
        found = f"{file}: read"
    except UserError as error:
        found = str(error)
    assert found.startswith(f"{file}: ")
    assert len(found.splitlines()) == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_votes(str(tmp_path / "a.csv"), KNOWN)
