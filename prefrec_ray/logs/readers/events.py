"""Reader of the event logs of `prefrec serve` (events/format.py), including logs of running servers.

An impression is a row of feedback on an item with an embedding. Its page is the event id, and the rows of a page are in
the order in which the server received them. Its position in the log is log * 2^40 + row, with logs numbered in the
order of the source. It never changes, even if files of a log become Parquet.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import ROWS_OF_FILE, Side, part_of
from prefrec_ray.logs.events.format import ITEMS, About, Kind, read_about
from prefrec_ray.logs.events.segments import first_row, list_segments, read_tables
from prefrec_ray.logs.log import Log, LoggedSource
from prefrec_ray.logs.sources import EventsSource
from prefrec_ray.logs.tables import content_of, item_table, join_items
from prefrec_ray.storage.parquet import read_sealed

_LOG = logging.getLogger(__name__)
#: Positions, both inclusive.
Span = tuple[int, int]


def open_log(source: EventsSource, seed: int = 0, side: Side | None = None) -> Log:
    """Return `open_events` with the kinds and titles of `source.items`, whose bad rows go to `side`."""
    log = open_events(source)
    if source.items is None:
        return log
    assert log.items is not None
    ids = log.items["item_id"].combine_chunks()
    with part_of(side, "items") as part:
        table = item_table(source.items, ids.type, part)
    row = pc.index_in(ids, table["item_id"].combine_chunks())
    if row.null_count:
        _LOG.warning("%s: lacks %d of the %d items of the log", source.items.path, row.null_count, len(ids))
    items = log.items
    for name in source.items.about:
        items = items.append_column(name, table[name].take(row))
    content = partial(content_of, table.select(["item_id", "tags"])) if source.items.features else None
    return replace(log, items=items, content=content)


def open_events(source: EventsSource, only: Sequence[Span] | None = None) -> Log:
    """Return the impressions up to now, without rows that a server appends later and without an unfinished record.

    With `only`, files without a row in any of these spans are not read. Raises `UserError` for a folder that no server
    wrote, another schema version, logs of servers with different settings, and a damaged log.
    """
    folders = [storage.absolute(path) for path in source.paths]
    abouts = [read_about(folder) for folder in folders]
    for other, folder in zip(abouts[1:], folders[1:], strict=True):
        abouts[0].check_same(other, f"{folder}: found another kind of log than {folders[0]}")
    about, summary = abouts[0], LogSummary(abouts[0].user_features)
    fragments: list[dict[str, Any]] = []
    for number, folder in enumerate(folders):
        fragments += _fragments(folder, number * ROWS_OF_FILE, about, summary, only)
    if not summary.requests and only is None:
        raise UserError(f"{', '.join(source.paths)}: no feedback yet; expected impressions with feedback")
    items = _items(folders)
    interactions = ray.data.from_items(fragments, override_num_blocks=max(1, len(fragments))).map_batches(
        _read_fragments,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={
            "about": about,
            "users": summary.column,
            # Wrapped in a list, because each task would resolve a bare reference.
            "known": [ray.put(items["item_id"].combine_chunks())],
            "without": source.without,
        },
    )
    return Log(
        interactions=lambda: interactions,
        rows=summary.requests,
        feedback=about.feedback,
        feedback_kinds=about.feedback_kinds,
        user_ids=pa.string() if summary.column == "user" else pa.int64(),
        item_ids=about.columns.field("items").type.value_type,
        users=summary.table() if about.user_features else None,
        categories=about.user_features,
        items=items,
        sources=(LoggedSource(tuple(folders), by_position=False),),
        has_pages=True,
        has_propensity=True,
    )


def _fragments(
    folder: str, base: int, about: About, summary: LogSummary, only: Sequence[Span] | None
) -> Iterator[dict[str, Any]]:
    """Yield the files of a log, with their rows; `summary` counts the rows."""
    files = list_segments(folder)
    ends = [*map(first_row, files[1:]), None][: len(files)]
    for file, end in zip(files, ends, strict=True):
        first = first_row(file)
        last = ROWS_OF_FILE - 1 if end is None else end - 1
        if only is not None and not any(base + first <= b and a <= base + last for a, b in only):
            continue
        rows = 0
        for table in read_tables([file], about.columns, end=end, names=summary.columns):
            rows += len(table)
            summary.add(table)
            if len(summary.kinds) > 1:
                raise UserError(f"{file}: found another kind of user ids than before; expected one kind in all logs")
        if rows:
            yield {"file": file, "base": base, "end": first + rows}


def requests(table: pa.Table) -> np.ndarray:
    """Return a mask of the rows that are impressions, bool [N]."""
    return pc.and_(pc.equal(table["kind"], int(Kind.FEEDBACK)), pc.fill_null(table["known"], False)).to_numpy()


class LogSummary:
    """Counts impressions, and keeps the features of each user that a server received last."""

    def __init__(self, features: Mapping[str, tuple[str, ...]]) -> None:
        self._features = features
        self._known: dict[Any, tuple[int, str]] = {}  # user -> time of receipt, JSON
        self.requests = 0
        self.column = "user_number"
        self.kinds: set[str] = set()  # of the ids of users
        #: Columns that `add` needs.
        self.columns = ["kind", "known", "user", *(("user_number", "note", "received") if features else ())]

    def add(self, table: pa.Table) -> None:
        """Add the next rows of a log."""
        wanted, text = requests(table), pc.is_valid(table["user"]).to_numpy()
        self.requests += int(wanted.sum())
        self.kinds |= ({"text"} if text.any() else set()) | ({"whole numbers"} if (wanted & ~text).any() else set())
        if text.any():
            self.column = "user"
        if self._features:
            rows = table.filter(pc.and_(pc.equal(table["kind"], int(Kind.RECOMMENDED)), pc.is_valid(table["note"])))
            columns = (rows[name].to_pylist() for name in (self.column, "received", "note"))
            for user, received, note in zip(*columns, strict=True):
                if user not in self._known or self._known[user][0] <= received:
                    self._known[user] = received, note

    def table(self) -> pa.Table:
        """Return user_id and the features as text (null: unknown)."""
        features = [json.loads(note) for _, note in self._known.values()]
        ids = pa.array(list(self._known), pa.string() if self.column == "user" else pa.int64())
        of_users = {name: pa.array([one.get(name) for one in features], pa.string()) for name in self._features}
        return pa.table({"user_id": ids, **of_users})


def _items(folders: Sequence[str]) -> pa.Table:
    """Return the items of all logs. Raises `UserError` if an item has different embeddings in two logs."""
    files = [storage.join(folder, ITEMS) for folder in folders]
    return join_items([read_sealed(file).select(["item_id", "embedding"]) for file in files], files)


def _read_fragments(
    fragments: pa.Table, about: About, users: str, known: list[ray.ObjectRef], without: Sequence[Span]
) -> Iterator[pa.Table]:
    """Yield impressions of `known` items; `users` is the column of ids."""
    items = ray.get(known[0])
    for fragment in fragments.to_pylist():
        for table in read_tables([fragment["file"]], about.columns, end=fragment["end"]):
            order = fragment["base"] + table["number"].to_numpy()
            wanted = requests(table)
            for first, last in without:
                wanted = wanted & ~((order >= first) & (order <= last))
            rows = _canonical(table.filter(pa.array(wanted)), order[wanted], about.feedback, users)
            yield rows.filter(pc.is_in(rows["item_id"], items))


def _canonical(rows: pa.Table, order: np.ndarray, feedback: Sequence[str], users: str) -> pa.Table:
    columns = {
        "user_id": rows[users],
        "item_id": pc.list_flatten(rows["items"]),
        "timestamp": rows["timestamp"],
        "order": pa.array(order),
        "page": rows["event_id"],
        "position": rows["position"].cast(pa.int32()),
        "dwell_ms": rows["dwell_ms"].to_numpy().astype(np.float64),
    }
    values = pc.list_flatten(rows["feedback"]).to_numpy().reshape(len(rows), len(feedback))
    columns |= {name: values[:, at] for at, name in enumerate(feedback)}
    chances = pc.list_flatten(rows["propensities"]).to_numpy().astype(np.float32)
    columns["propensity"] = pa.array(chances, from_pandas=True)
    # Every item that a policy draws has a propensity; items of the platform's recommender have none.
    drawn_page = pc.fill_null(pc.not_equal(rows["policy"], "incumbent"), False).to_numpy()
    columns["pinned"] = pa.array(drawn_page & np.isnan(chances))
    return pa.table(columns)
