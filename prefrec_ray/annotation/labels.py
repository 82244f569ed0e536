"""Labels of annotators in the data set: votes from a file (JSONL or CSV), aggregated labels, and single votes.

DATASET/people/NAME/people.json                 aggregation, agreement, and VERSION
DATASET/people/NAME/VERSION/train.parquet       pair_id, user_0, start_0, user_1, start_1, length, label, votes, teacher
DATASET/people/NAME/VERSION/validation.parquet  the same for validation users, held out; only if there are any
DATASET/people/NAME/VERSION/votes.parquet       pair_id, annotator, label (null: skipped)
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from prefrec_ray import storage
from prefrec_ray.annotation.aggregate import AGGREGATES, disagreement, krippendorff_alpha, side
from prefrec_ray.annotation.questions import histories, read_pairs
from prefrec_ray.dataset import PEOPLE, PreparedDataset
from prefrec_ray.errors import UserError, nearest
from prefrec_ray.logs.schemas import check_present
from prefrec_ray.logs.values import visible
from prefrec_ray.preferences import SCRIPTED
from prefrec_ray.storage.parquet import write_parquet

#: A name is also the name of a folder and an argument of commands.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
COLUMNS = ("pair_id", "annotator", "label")
#: P(second preferred) of a label in words; a skip has none.
WORDS: dict[str, float | None] = {"first": 0.0, "second": 1.0, "tie": 0.5, "skip": None}

#: label: P(second preferred); null if the annotator skipped the pair.
SCHEMA = pa.schema([("pair_id", pa.int64()), ("annotator", pa.string()), ("label", pa.float32())])


def import_labels(labels: str, pairs: str, dataset: str, name: str, aggregate: str, replace: bool) -> dict[str, Any]:
    """Write DATASET/people/NAME from the votes in the file `labels` on the questions in the folder `pairs`.

    Returns the contents of people.json. Raises `UserError` for bad votes (`read_votes`), an invalid name or a
    name in use (by labels, unless `replace`, or by a scripted teacher), and pairs of another data set. No file is
    written then, and with `replace` the earlier labels stay.
    """
    prepared = PreparedDataset.open(dataset)
    _check_name(name, prepared)
    questions = read_pairs(pairs)
    votes = read_votes(labels, set(questions["pair_id"].to_pylist()))
    try:
        return import_votes(votes, labels, questions, pairs, prepared, name, aggregate, replace)
    except FileExistsError as error:
        raise UserError(f"--name: {error} exists; choose another name, or --replace") from error


def import_votes(
    votes: pa.Table,
    labels: str,
    questions: pa.Table,
    pairs: str,
    prepared: PreparedDataset,
    name: str,
    aggregate: str,
    replace: bool = True,
) -> dict[str, Any]:
    """Like `import_labels`, from a table of votes (`SCHEMA`) and a table of questions.

    `labels` and `pairs` name their sources in errors. Raises `FileExistsError` like `write_labels`.
    """
    if aggregate not in AGGREGATES:
        raise UserError(f"aggregate: unknown way '{aggregate}'; {nearest(aggregate, list(AGGREGATES))}")
    target = prepared.path("people", name)
    _check_pairs(questions, prepared, pairs)

    judged = votes.filter(votes["label"].is_valid())
    ids, pair = np.unique(judged["pair_id"].to_numpy(), return_inverse=True)
    names = pc.unique(votes["annotator"]).sort()
    annotator = pc.index_in(judged["annotator"], names).to_numpy()
    vote = judged["label"].to_numpy().astype(np.float64)
    label, sides = AGGREGATES[aggregate](pair, annotator, vote, len(ids))

    rows = questions.take(pc.index_in(pa.array(ids), questions["pair_id"].combine_chunks()))
    rows = rows.append_column("label", pa.array(label, pa.float32()))
    rows = rows.append_column("votes", pa.array(np.bincount(pair)))
    rows = rows.append_column("teacher", pa.array([name] * len(rows), pa.string()))
    parts = {
        split: rows.filter(pc.equal(rows["split"], split)).drop_columns("split") for split in ("train", "validation")
    }
    if len(parts["train"]) == 0:
        raise UserError(f"{labels}: no votes on pairs of training users; expected some to learn from")

    skipped = votes.filter(votes["label"].is_null())["annotator"]
    differs = disagreement(annotator, side(vote), sides[pair], len(names))
    summary = {
        "name": name,
        "aggregate": aggregate,
        "pairs": {split: len(part) for split, part in parts.items()},
        "votes": len(judged),
        "skips": len(skipped),
        "ties": float((vote == 0.5).mean()),
        "krippendorff_alpha": krippendorff_alpha(pair, side(vote)),
        "annotators": [
            {
                "annotator": who,
                "votes": int((annotator == number).sum()),
                "skips": int(pc.sum(pc.equal(skipped, who)).as_py() or 0),
                "disagreement": None if math.isnan(differs[number]) else float(differs[number]),
            }
            for number, who in enumerate(names.to_pylist())
        ],
    }
    tables = {split: part for split, part in parts.items() if len(part)} | {"votes": votes}
    write_labels(target, tables, summary, replace)
    return summary


def write_labels(target: str, tables: dict[str, pa.Table], summary: dict[str, Any], replace: bool) -> None:
    """Write `tables` and people.json into the folder `target`, and replace its contents.

    Raises `FileExistsError` if it contains labels, unless `replace` is set: a run may be about to read them. New labels
    are written to a new folder. Readers use the earlier labels until one write of people.json switches to the new ones,
    so that any interruption leaves either of the two.
    """
    with storage.claimed(target):
        if not replace and storage.exists(storage.join(target, PEOPLE)):
            raise FileExistsError(target)
        names = [folder.rsplit("/", 1)[-1] for folder in storage.list_folders(target)]
        version = 1 + max((int(name) for name in names if name.isdigit()), default=0)
        folder = storage.join(target, str(version))
        storage.make_folder(folder)
        try:
            for name, table in tables.items():
                write_parquet(table, storage.join(folder, f"{name}.parquet"))
            storage.write_json(storage.join(target, PEOPLE), {**summary, "version": version})
        except BaseException:
            storage.remove(folder)
            raise
        for left in storage.list_folders(target):
            if left != folder:
                storage.remove(left)


def _check_name(name: str, dataset: PreparedDataset) -> None:
    if not re.fullmatch(_NAME, name) or name.endswith(".partial"):
        raise UserError(
            f"--name: {name!r} is not a valid name; expected letters, digits, '_', '-' and '.', a letter or digit first"
        )
    if not isinstance(yaml.safe_load(name), str):
        raise UserError(f"--name: found {name}, which YAML does not read as text; expected a name like team-{name}")
    if name in (*dataset.metadata.teachers, *SCRIPTED):
        raise UserError(f"--name: '{name}' is a scripted teacher of the data set; expected another name")


def _check_pairs(questions: pa.Table, dataset: PreparedDataset, where: str) -> None:
    users = histories(dataset)
    for split, known in users.items():
        those = questions.filter(pc.equal(questions["split"], split))
        length = those["length"].to_numpy()
        for which in (0, 1):
            user = those[f"user_{which}"].combine_chunks()
            if len(those) and user.type != known.ids.type:
                raise UserError(
                    f"{where}: found user ids of type {user.type}; expected {known.ids.type} as in {dataset.uri}"
                )
            outside = np.flatnonzero(~known.has(user, those[f"start_{which}"].to_numpy(), length))
            if len(outside):
                row = int(outside[0])
                pair, start = those["pair_id"][row], those[f"start_{which}"][row].as_py()
                raise UserError(
                    f"{where}: pair {pair}: {dataset.uri} has no {split} user {user[row]} with more than "
                    f"{start + length[row]} impressions; expected the data set of the questions"
                )


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
                found = sorted(key for key, value in vote.items() if value not in (None, ""))
                columns = ", ".join(map(visible, found)) or "nothing"
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
                where, value = f"{uri}: line {number}", storage.parse_json(line, uri, number)
                if not isinstance(value, dict):
                    raise UserError(f"{where}: expected an object with {', '.join(COLUMNS)}, found {value!r}")
                yield where, value
    elif suffix == "csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        try:
            check_present(uri, COLUMNS, reader.fieldnames or [])
            for row in reader:
                where = f"{uri}: line {reader.line_num}"
                if None in row:
                    found, expected = len(row) - 1 + len(row[None]), len(row) - 1
                    raise UserError(f"{where}: found {found} values; expected {expected}")
                yield where, {column: row[column] for column in COLUMNS}
        except csv.Error as error:
            raise UserError(f"{uri}: not CSV ({error})") from error
    else:
        raise UserError(f"{uri}: expected a file .jsonl or .csv, found .{suffix}")


def _annotator(value: Any, where: str) -> str:
    name = str(value)
    whole = name.encode("utf-8", "replace").decode() == name  # False for an incomplete UTF-16 character
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not whole or not name.strip():
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
