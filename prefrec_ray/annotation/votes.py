"""Reading of votes from a file (JSONL, CSV, Label Studio's JSON, JSON-MIN or CSV)."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.annotation import label_studio
from prefrec_ray.errors import UserError

COLUMNS = ("pair_id", "annotator", "label")
#: P(second preferred) of a label in words; a skip has none.
WORDS: dict[str, float | None] = {"first": 0.0, "second": 1.0, "tie": 0.5, "skip": None}

#: Label Studio's CSV contains the tasks, with HTML that may exceed Python's default limit.
csv.field_size_limit(1 << 30)

#: label: P(second preferred); null if the annotator skipped the pair.
SCHEMA = pa.schema([("pair_id", pa.int64()), ("annotator", pa.string()), ("label", pa.float32())])

Answer = tuple[str, dict[str, Any]]  # position and contents


def read_votes(uri: str, known: set[int]) -> pa.Table:
    """Return the votes in `uri` in order, one row each (`SCHEMA`). `known` are the ids of the questions.

    A label is first, second, tie or skip, or a number in [0, 1]: the probability that the second is better. Raises
    `UserError`: a missing file or column, bad JSON, an unknown pair or label, a vote without an annotator, two votes of
    an annotator on a pair, no vote.
    """
    votes: dict[tuple[int, str], tuple[float | None, str]] = {}
    for where, answer in _answers(uri):
        for column in COLUMNS:
            if answer.get(column) is None or answer[column] == "":
                columns = ", ".join(sorted(answer)) or "nothing"
                raise UserError(f"{where}: {column} is missing; expected {', '.join(COLUMNS)}, found {columns}")
        pair, annotator = _pair(answer["pair_id"], known, where), _annotator(answer["annotator"], where)
        if (pair, annotator) in votes:
            before = votes[pair, annotator][1].removeprefix(f"{uri}: ")
            raise UserError(
                f"{where}: annotator {annotator!r} votes on pair {pair} again (first in {before}); expected one vote"
            )
        votes[pair, annotator] = _label(answer["label"], where), where
    if all(label is None for label, _ in votes.values()):
        raise UserError(f"{uri}: {len(votes)} votes, all of them skips; expected at least one other vote")
    rows = [{"pair_id": pair, "annotator": name, "label": label} for (pair, name), (label, _) in votes.items()]
    return pa.Table.from_pylist(rows, SCHEMA)


def _answers(uri: str) -> Iterator[Answer]:
    text = storage.read_text(uri).removeprefix("\ufeff")
    suffix = uri.rsplit(".", 1)[-1].lower()
    if suffix in ("jsonl", "ndjson"):
        return _json_lines(text, uri)
    if suffix == "csv":
        return _csv(text, uri)
    if suffix == "json":
        return _json(text, uri)
    raise UserError(f"{uri}: expected a file .jsonl, .csv or .json (Label Studio's export), found .{suffix}")


def _json_lines(text: str, uri: str) -> Iterator[Answer]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{uri}: line {number}"
            yield where, _object(_parsed(line, where), where)


def _csv(text: str, uri: str) -> Iterator[Answer]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = reader.fieldnames or []
    for column in COLUMNS:
        if column not in columns:
            raise UserError(f"{uri}: column '{column}' is missing; found {', '.join(columns) or 'none'}")
    for row in reader:
        yield f"{uri}: line {reader.line_num}", {column: row[column] for column in COLUMNS}


def _json(text: str, uri: str) -> Iterator[Answer]:
    rows = _parsed(text, uri)
    if not isinstance(rows, list):
        raise UserError(
            f"{uri}: expected a list (Label Studio's export as JSON or JSON-MIN), found {type(rows).__name__}"
        )
    if label_studio.is_export(rows):
        yield from label_studio.answers(rows, uri)
        return
    for number, row in enumerate(rows, 1):
        where = f"{uri}: entry {number}"
        yield where, _object(row, where)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error).partition(': line')[0]})") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object with {', '.join(COLUMNS)}, found {value!r}")
    return value


def _annotator(value: Any, where: str) -> str:
    name = str(value)
    whole = name.encode("utf-8", "replace").decode() == name  # False for an incomplete UTF-16 character
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not whole:
        raise UserError(f"{where}: annotator {value!r}; expected a name or a number")
    return name


def _pair(value: Any, known: set[int], where: str) -> int:
    digits = re.fullmatch(r"([0-9]{1,18})(\.0)?", str(value).strip())
    pair = int(digits[1]) if digits else -1
    if pair not in known:
        raise UserError(f"{where}: unknown pair_id {value!r}; expected one of the {len(known)} pairs of the questions")
    return pair


def _label(value: Any, where: str) -> float | None:
    text = str(value).strip().lower()
    if text in WORDS:
        return WORDS[text]
    try:
        number = float(text) if not isinstance(value, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UserError(f"{where}: unknown label {value!r}; expected {', '.join(WORDS)} or a number from 0 to 1")
    return number
