"""The event log of `prefrec serve` (events/format.py), of a server that runs or of one that ended.

A request is a row of feedback on an item that the server knew: one of which it had an embedding. Other rows make none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.events.format import ABOUT, ITEMS, SCHEMA_VERSION, SEGMENTS, SUFFIX, Kind, pieces, schema, whole_bytes
from prefrec_ray.logs.contract import ROWS_OF_FILE
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.sources import EventsSource
from prefrec_ray.storage.parquet import read_parquet


@dataclass(frozen=True)
class _Form:
    """What workers need to know of the log. `users`: the column of ids."""

    columns: pa.Schema
    feedback: tuple[str, ...]
    users: str
    items: Any  # ray.ObjectRef of a pa.Array: the ids of known items
    without: tuple[tuple[int, int], ...]


def open_events(source: EventsSource) -> Log:
    """The requests up to now: what a server appends later is left out, and so is what an interrupted write left.

    Raises `UserError` for a folder that no server wrote, another schema version, and a damaged log.
    """
    folder = storage.absolute(source.path)
    about_file = storage.join(folder, ABOUT)
    if not storage.exists(about_file):
        raise UserError(
            f"{source.path}: no folder of events ({ABOUT} is missing); expected that of `prefrec serve --state`"
        )
    about = storage.read_json(about_file)
    if about.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{about_file}: schema version {about.get('schema_version')}, expected {SCHEMA_VERSION}")
    columns = schema(pa.int64() if about["item_ids"] == "int64" else pa.string())
    files = storage.list_files(storage.join(folder, SEGMENTS), SUFFIX)
    ends = [_end(file, columns, file == files[-1]) for file in files]
    items = read_parquet(storage.join(folder, ITEMS)).select(["item_id", "embedding"])
    features = {name: tuple(categories) for name, categories in about["user_features"].items()}
    users = _Users(features)
    rows = 0
    for file, end in zip(files, ends, strict=True):
        for table in _tables(file, end, columns):
            if table["number"][0].as_py() != rows:
                raise UserError(
                    f"{file}: a batch begins at row {table['number'][0]}; expected {rows}: a file is missing"
                )
            rows += len(table)
            users.add(table)
    if not users.requests:
        raise UserError(f"{source.path}: no feedback yet; expected requests with feedback")
    form = _Form(
        columns, tuple(about["feedback"]), users.column, ray.put(items["item_id"].combine_chunks()), source.without
    )
    places = enumerate(zip(files, ends, strict=True))
    fragments = [{"file": file, "number": number, "end": end} for number, (file, end) in places]
    interactions = ray.data.from_items(fragments, override_num_blocks=len(fragments)).map_batches(
        _read_fragments, batch_size=None, batch_format="pyarrow", fn_kwargs={"form": form}
    )
    return Log(
        interactions=interactions,
        rows=users.requests,
        feedback=form.feedback,
        feedback_kinds=about["feedback_kinds"],
        users=users.table() if features else None,
        categories=features,
        items=items,
        files=tuple(files),
        has_propensity=True,
    )


def _end(file: str, columns: pa.Schema, last: bool) -> int:
    """The bytes of a file that are whole: all, but for the last file. Raises `UserError` where others are damaged."""
    content = _content(file)
    whole = whole_bytes(content, columns, file)
    if whole < content.size and not last:
        raise UserError(f"{file}: ends at byte {whole} of {content.size}; expected a whole file before others")
    return whole


def _content(file: str, end: int | None = None) -> pa.Buffer:
    system, path = storage.filesystem(file)
    with system.open_input_file(path) as stream:
        return stream.read_buffer(end)


def _tables(file: str, end: int, columns: pa.Schema) -> Iterator[pa.Table]:
    if end:
        for piece in pieces(_content(file, end), columns):
            yield pa.Table.from_batches([piece.batch])


class _Users:
    """Counts requests; holds the features of each user as they were given last."""

    def __init__(self, features: dict[str, tuple[str, ...]]) -> None:
        self._features = features
        self._known: dict[Any, str] = {}
        self.requests = 0
        self.column = "user_number"

    def add(self, table: pa.Table) -> None:
        """Takes in rows."""
        self.requests += int((_requests(table)).sum())
        if pc.any(pc.is_valid(table["user"])).as_py():
            self.column = "user"
        if self._features:
            told = table.filter(pc.and_(pc.equal(table["kind"], int(Kind.RECOMMENDED)), pc.is_valid(table["note"])))
            self._known.update(zip(told[self.column].to_pylist(), told["note"].to_pylist(), strict=True))

    def table(self) -> pa.Table:
        """user_id and the features as text (null: unknown)."""
        told = [json.loads(note) for note in self._known.values()]
        ids = pa.array(list(self._known), pa.string() if self.column == "user" else pa.int64())
        of_users = {name: pa.array([one.get(name) for one in told], pa.string()) for name in self._features}
        return pa.table({"user_id": ids, **of_users})


def _requests(table: pa.Table) -> np.ndarray:
    return pc.and_(pc.equal(table["kind"], int(Kind.FEEDBACK)), pc.fill_null(table["known"], False)).to_numpy()


def _read_fragments(fragments: pa.Table, form: _Form) -> Iterator[pa.Table]:
    items = ray.get(form.items)
    for fragment in fragments.to_pylist():
        row = 0
        for table in _tables(fragment["file"], fragment["end"], form.columns):
            order = fragment["number"] * ROWS_OF_FILE + row + np.arange(len(table))
            row += len(table)
            yield _canonical(table, order, form, items)


def _canonical(table: pa.Table, order: np.ndarray, form: _Form, items: pa.Array) -> pa.Table:
    wanted = _requests(table)
    for first, last in form.without:
        wanted = wanted & ~((order >= first) & (order <= last))
    keep = pa.array(wanted)
    rows, order = table.filter(keep), order[keep.to_numpy(zero_copy_only=False)]
    columns = {
        "user_id": rows[form.users],
        "item_id": pc.list_flatten(rows["items"]),
        "timestamp": rows["timestamp"],
        "order": pa.array(order),
        "dwell_ms": rows["dwell_ms"].to_numpy().astype(np.float64),
    }
    values = pc.list_flatten(rows["feedback"]).to_numpy().reshape(len(rows), len(form.feedback))
    columns |= {name: values[:, at] for at, name in enumerate(form.feedback)}
    chances = pc.list_flatten(rows["propensities"]).to_numpy().astype(np.float32)
    columns["propensity"] = pa.array(chances, from_pandas=True)
    requests = pa.table(columns)
    return requests.filter(pc.is_in(requests["item_id"], items))
