"""Reader of annotators' votes (JSONL or CSV)."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.schemas import check_present
from prefrec_ray.logs.values import visible

COLUMNS = ("pair_id", "annotator", "label")
#: P(second preferred) of a label in words; a skip has none.
WORDS: dict[str, float | None] = {"first": 0.0, "second": 1.0, "tie": 0.5, "skip": None}

#: label: P(second preferred); null if the annotator skipped the pair.
SCHEMA = pa.schema([("pair_id", pa.int64()), ("annotator", pa.string()), ("label", pa.float32())])


def read_votes(uri: str, known: set[int]) -> pa.Table:
    """Return the votes in `uri` in order, one row each (`SCHEMA`). `known` are the ids of the questions.

    A label is first, second, tie or skip, or a number in [0, 1]: the probability that the second is better. Raises
    `UserError`: a missing file or column, invalid JSON or CSV, an unknown pair or label, a vote without an annotator,
    two votes of an annotator on a pair, a file without votes.
    """
    votes: dict[tuple[int, str], tuple[float | None, str]] = {}
    for where, vote in _votes(uri):
        for column in COLUMNS:
            if vote.get(column) is None or vote[column] == "":
                columns = ", ".join(map(visible, sorted(vote))) or "nothing"
                raise UserError(f"{where}: {column} is missing; expected {', '.join(COLUMNS)}, found {columns}")
        pair, annotator = _pair(vote["pair_id"], known, where), _annotator(vote["annotator"], where)
        if (pair, annotator) in votes:
            before = votes[pair, annotator][1].removeprefix(f"{uri}: ")
            raise UserError(
                f"{where}: annotator {annotator!r} votes on pair {pair} again (first in {before}); expected one vote"
            )
        votes[pair, annotator] = _label(vote["label"], where), where
    rows = [{"pair_id": pair, "annotator": name, "label": label} for (pair, name), (label, _) in votes.items()]
    return vote_table(rows, uri)


def vote_table(rows: list[dict[str, Any]], where: str) -> pa.Table:
    """Return votes as a table (`SCHEMA`). Raises `UserError` if all are skips."""
    if all(row["label"] is None for row in rows):
        raise UserError(f"{where}: {len(rows)} votes, all of them skips; expected at least one other vote")
    return pa.Table.from_pylist(rows, SCHEMA)


def _votes(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the contents of each vote in a file."""
    text = storage.read_text(uri).removeprefix("\ufeff")
    suffix = uri.rsplit(".", 1)[-1].lower()
    if suffix == "jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                where = f"{uri}: line {number}"
                yield where, _object(line, where)
    elif suffix == "csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        try:
            check_present(uri, COLUMNS, reader.fieldnames or [])
            for row in reader:
                yield f"{uri}: line {reader.line_num}", {column: row[column] for column in COLUMNS}
        except csv.Error as error:
            raise UserError(f"{uri}: not CSV ({error})") from error
    else:
        raise UserError(f"{uri}: expected a file .jsonl or .csv, found .{suffix}")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error).partition(': line')[0]})") from error
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
