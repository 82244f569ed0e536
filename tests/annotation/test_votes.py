"""Answers in every supported format, and errors of one line with their position."""

import csv
import functools
import io
import json
import operator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from prefrec_ray.annotation.votes import read_votes
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


def studio_export() -> list[dict[str, Any]]:
    """The same (and no number) as Label Studio exports it: users as objects and as ids, a skip as `was_cancelled`."""

    def annotation(who: Any, *choices: str, cancelled: bool = False) -> dict[str, Any]:
        result = {"id": "x", "from_name": "label", "to_name": "first", "type": "choices"}
        results = [{**result, "value": {"choices": list(choices)}}] if choices else []
        return {"id": 1, "completed_by": who, "result": results, "was_cancelled": cancelled, "lead_time": 3.2}

    def task(pair: int, *annotations: dict[str, Any]) -> dict[str, Any]:
        return {"id": pair, "data": {"pair_id": pair, "first": "<p>", "second": "<p>"}, "annotations": annotations}

    return [
        task(11, annotation({"id": 1, "email": "Ännchen"}, "first"), annotation({"id": 2, "email": "bo"}, "tie")),
        task(12, annotation({"id": 2, "email": "bo"}, cancelled=True)),
        task(2**48 - 1, annotation(7, "second")),
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
    lines, plain, export = tmp_path / "a.jsonl", tmp_path / "min.json", tmp_path / "export.json"
    lines.write_text("".join(json.dumps(row) + "\n\n" for row in GOOD), "utf-8")
    plain.write_text(json.dumps(GOOD), "utf-8")
    export.write_text(json.dumps(studio_export()), "utf-8")
    table = write_csv(tmp_path / "a.csv", GOOD, ["label", "annotator", "pair_id"])
    marked = tmp_path / "excel.csv"
    marked.write_text("\ufeff" + table.read_text("utf-8"), "utf-8")
    long = [{**row, "first": "<p>" * 100_000} for row in GOOD]
    with_tasks = write_csv(tmp_path / "studio.csv", long, ["first", "label", "annotator", "pair_id"])
    old = tmp_path / "old.csv"
    old.write_text(table.read_text("utf-8").replace("\n", "\r"), "utf-8", newline="")
    for file in (lines, plain, table, marked, with_tasks, old):
        assert rows(file) == VOTES
    assert rows(export) == VOTES[:-1]


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
        ("a.jsonl", line(pair_id=None), ["line 1: pair_id is missing", "found annotator, label, pair_id"]),
        ("a.jsonl", line(annotator="(leave out)"), ["line 1: annotator is missing", "found label, pair_id"]),
        ("a.jsonl", line(annotator=""), ["line 1: annotator is missing"]),
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
        ("a.json", "{}", ["expected a list", "found dict"]),
        ("a.json", "[", ["not JSON"]),
        ("a.json", "[3]", ["entry 1: expected an object"]),
        ("a.json", '[{"data": {"pair_id": 11}}]', ["task 1: key 'annotations' is missing"]),
        (
            "a.json",
            '[{"data": {}, "annotations": [{"completed_by": 1, "result": []}]}]',
            ["task 1: annotation 1: pair_id is missing"],
        ),
        ("a.json", '[{"data": {"pair_id": 11}, "annotations": [{}]}]', ["task 1: annotation 1: annotator is missing"]),
        ("a.jsonl", line(pair_id=11.5), ["line 1: unknown pair_id 11.5"]),
        ("a.jsonl", line(pair_id=True), ["line 1: unknown pair_id True"]),
        ("a.jsonl", line()[:-1] + ', "pair_id": 1e999}', ["line 1: unknown pair_id inf"]),
        ("a.jsonl", "1" * 5000, ["line 1: not JSON"]),
        ("a.jsonl", "[" * 100_000, ["line 1: not JSON"]),
        ("a.jsonl", line(annotator=["a", "b"]), ["line 1: annotator ['a', 'b']; expected a name or a number"]),
        ("a.jsonl", line(annotator="\ud800"), ["line 1: annotator '\\ud800'"]),
        ("a.xlsx", "x", ["expected a file .jsonl, .csv or .json", "found .xlsx"]),
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


def test_two_choices_in_one_annotation(tmp_path: Path) -> None:
    export = studio_export()
    export[0]["annotations"][0]["result"][0]["value"]["choices"] = ["first", "second"]
    file = tmp_path / "export.json"
    file.write_text(json.dumps(export))
    with pytest.raises(UserError, match="task 1: annotation 1: found 2 choices, expected one"):
        read_votes(str(file), KNOWN)


RESULT = ["annotations", 0, "result", 0]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ([*RESULT, "value"], None, "annotation 1: key 'value': "),
        ([*RESULT, "value"], {}, "annotation 1: key 'value.choices' is missing"),
        ([*RESULT, "value"], {"text": ["first"]}, "annotation 1: key 'value.choices' is missing"),
        ([*RESULT, "value", "choices"], "first", "annotation 1: key 'value.choices': "),
        ([*RESULT, "value", "choices"], [1], "annotation 1: key 'value.choices.0': "),
        ([*RESULT, "value", "choices"], ["left"], "annotation 1: unknown label 'left'"),
        (["annotations", 0, "result"], "first", "annotation 1: key 'result': "),
        (["annotations", 0, "result"], ["first"], "annotation 1: key 'result.0': "),
        (["annotations", 1, "completed_by"], {"name": "bo"}, "annotation 2: annotator is missing"),
        (["annotations", 1, "completed_by"], {"email": ["bo"]}, r"annotation 2: annotator \['bo'\]; expected a name"),
        (["annotations", 1], 7, "key 'annotations.1': "),
        (["annotations"], None, "key 'annotations': "),
        (["data"], [], "key 'data': "),
    ],
)
def test_a_malformed_export(tmp_path: Path, place: list[Any], value: Any, words: str) -> None:
    export = json.loads(json.dumps(studio_export()))
    functools.reduce(operator.getitem, place[:-1], export[0])[place[-1]] = value
    file = tmp_path / "export.json"
    file.write_text(json.dumps(export))
    with pytest.raises(UserError, match=rf"^{file}: task 1: {words}"):
        read_votes(str(file), KNOWN)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, by the keys that lead to it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([11, "first"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(places(json.loads(json.dumps(studio_export())))), value=JSON, gone=st.booleans())
def test_whatever_is_wrong_with_an_export_is_one_line(
    tmp_path: Path, place: tuple[Any, ...], value: Any, gone: bool
) -> None:
    """It is read, or refused by a line that begins with the file."""
    whole = {"": json.loads(json.dumps(studio_export()))}
    *before, last = ("", *place)
    parent = functools.reduce(operator.getitem, before, whole)
    if gone and place:
        del parent[last]
    else:
        parent[last] = value
    file = tmp_path / "export.json"
    file.write_text(json.dumps(whole[""]), "utf-8")
    try:
        read_votes(str(file), KNOWN)
        line = f"{file}: read"
    except UserError as error:
        line = str(error)
    assert line.startswith(f"{file}: ")
    assert len(line.splitlines()) == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_votes(str(tmp_path / "a.csv"), KNOWN)
