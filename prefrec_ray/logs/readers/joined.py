"""One log from several sources: their impressions, users and items. Where sources differ, the first one counts.

A joined log has the feedback of all its sources. Rows of a source without a feedback column have 0 there, as feedback
that a client of a server does not name. The columns of an event log come first, so that its server can serve policies
that are trained on the joined log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import ROWS_OF_FILE, Side
from prefrec_ray.logs.log import Content, Log, first_files
from prefrec_ray.logs.sources import JoinedSource, RayDataSource
from prefrec_ray.logs.tables import join_items, join_texts

#: What all sources must have in common.
_COMMON: dict[str, Callable[[Log], str]] = {
    "user ids": lambda log: _word(log.user_ids),
    "item ids": lambda log: _word(log.item_ids),
    "session ids": lambda log: "some" if log.given_sessions else "none",
    "rewards": lambda log: "some" if log.has_reward else "none",
}


def open_log(source: JoinedSource, seed: int = 0, side: Side | None = None) -> Log:
    """Return the rows, users and items of all sources. Raises `UserError` as their readers, and if they disagree.

    Sources disagree if ids of users or items are text only in some; if only some have sessions or rewards; if feedback
    of one name has two kinds; or if an item has two embeddings.
    """
    logs, places = [], []
    for number, part in enumerate(source.sources):
        logs.append(part.open_log(seed, side and replace(side, prefix=f"{number}-")))
        path = part.name if isinstance(part, RayDataSource) else part.path
        places.append(f"source {number + 1} ({path if isinstance(path, str) else ', '.join(path)})")
    _check(logs, places)
    sources = tuple(one for log in logs for one in log.sources)
    first = sorted(range(len(logs)), key=lambda number: source.sources[number].kind != "events")
    ordered = [logs[number] for number in first]
    feedback = tuple(dict.fromkeys(name for log in ordered for name in log.feedback))
    schema = _schema(logs, feedback)
    rows = [
        log.interactions().map_batches(
            _aligned,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"schema": schema, "feedback": feedback, "number": number, "first_file": first_file},
        )
        for number, (log, first_file) in enumerate(zip(logs, first_files(sources), strict=True))
    ]
    users, (items, about) = _users(logs), _items(logs, places)
    contents = [log.content for log in logs if log.content is not None]
    whole = rows[0].union(*rows[1:])
    return Log(
        interactions=lambda: whole,
        rows=sum(log.rows for log in logs),
        feedback=feedback,
        user_ids=logs[0].user_ids,
        item_ids=logs[0].item_ids,
        feedback_kinds={name: kind for log in logs for name, kind in log.feedback_kinds.items()},
        users=users,
        categories={name: known for log in reversed(ordered) for name, known in log.categories.items()},
        items=items,
        content=partial(_content, contents) if contents else None,
        about=about,
        sources=sources,
        given_sessions=logs[0].given_sessions,
        has_pages=all(log.has_pages for log in logs),
        has_examined=any(log.has_examined for log in logs),
        has_reward=logs[0].has_reward,
        has_propensity=any(log.has_propensity for log in logs),
    )


def _word(kind: pa.DataType) -> str:
    return "whole numbers" if kind == pa.int64() else "text"


def _check(logs: Sequence[Log], places: Sequence[str]) -> None:
    """Raise `UserError` if a source contradicts an earlier one."""
    kinds: dict[str, tuple[str, str]] = {}  # by feedback: its kind, and the source
    for log, place in zip(logs, places, strict=True):
        for what, of in _COMMON.items():
            found, expected = of(log), of(logs[0])
            if found != expected:
                raise UserError(f"{place}: {what}: found {found}; expected {expected} as in {places[0]}")
        for name in log.feedback:
            kind = log.feedback_kinds.get(name, "number")
            expected, where = kinds.setdefault(name, (kind, place))
            if kind != expected:
                raise UserError(f"{place}: feedback '{name}': found kind {kind}; expected {expected} as in {where}")


def _schema(logs: Sequence[Log], feedback: Sequence[str]) -> pa.Schema:
    first = logs[0]
    columns = {"user_id": first.user_ids, "item_id": first.item_ids, "timestamp": pa.int64(), "order": pa.int64()}
    columns |= {"dwell_ms": pa.float64(), "row_hash": pa.int64()}
    columns |= {"session_id": pa.string()} if first.given_sessions else {}
    if all(log.has_pages for log in logs):
        columns |= {"page": pa.string(), "position": pa.int32()}
    columns |= {"examined": pa.bool_()} if any(log.has_examined for log in logs) else {}
    columns |= {"reward": pa.float32()} if first.has_reward else {}
    columns |= {"propensity": pa.float32(), "pinned": pa.bool_()} if any(log.has_propensity for log in logs) else {}
    return pa.schema([*columns.items(), *((name, pa.float32()) for name in feedback)])


def _aligned(rows: pa.Table, schema: pa.Schema, feedback: Sequence[str], number: int, first_file: int) -> pa.Table:
    """Return rows of one source with all columns of the joined log."""
    missing = {"dwell_ms": np.nan, "examined": True, **dict.fromkeys(("position", "propensity", "row_hash"))}
    missing |= {"pinned": False, **dict.fromkeys(feedback, 0.0)}
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            column = pa.repeat(pa.scalar(missing[field.name], field.type), rows.num_rows)
        elif field.name == "order":
            column = pa.array(rows["order"].to_numpy() + first_file * ROWS_OF_FILE)
        elif field.name in ("session_id", "page"):  # two sources may use the same ids for different sessions and pages
            column = pc.binary_join_element_wise(str(number), rows[field.name].cast(pa.string()), ":")
        else:
            column = rows[field.name].cast(field.type)
        columns.append(column)
    return pa.table(columns, schema=schema)


def _users(logs: Sequence[Log]) -> pa.Table | None:
    """Return the features of all users, null if no source has the feature of a user."""
    tables = [log.users for log in logs if log.users is not None]
    if not tables:
        return None
    ids = pa.concat_tables([table.select(["user_id"]) for table in tables])["user_id"].unique()
    names = dict.fromkeys(name for table in tables for name in table.column_names if name != "user_id")
    return pa.table({"user_id": ids, **join_texts(tables, "user_id", ids, list(names))})


def _items(logs: Sequence[Log], places: Sequence[str]) -> tuple[pa.Table | None, pa.Table | None]:
    """Return the items with embeddings, or a table of all other items, with the columns for reports."""
    tables = [table for log in logs for table in (log.items, log.about) if table is not None]
    if not tables:
        return None, None
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    texts = [name for name in names if name not in ("item_id", "embedding")]
    embedded = [(log.items, place) for log, place in zip(logs, places, strict=True) if log.items is not None]
    if not embedded:
        ids = pa.concat_tables([table.select(["item_id"]) for table in tables])["item_id"].unique()
        return None, pa.table({"item_id": ids, **join_texts(tables, "item_id", ids, texts)})
    own, of_own = zip(*embedded, strict=True)
    items = join_items([table.select(["item_id", "embedding"]) for table in own], of_own)
    ids = items["item_id"].combine_chunks()
    for name, column in join_texts(tables, "item_id", ids, texts).items():
        items = items.append_column(name, column)
    return items, None


def _content(contents: Sequence[Callable[[np.ndarray], Content]], ids: np.ndarray) -> Content:
    """Return the tags of items in the first source that has any of an item, and the makers in the first source."""
    parts = [content(ids) for content in contents]
    rest = np.ones(len(ids), dtype=bool)
    items, tags = [], []
    for part in parts:
        pairs = part.tags.tocoo()
        names = [f"{part.features[of]}={name}" for of, name in zip(part.feature, part.categories, strict=True)]
        new = rest[pairs.row]
        items.append(pairs.row[new].astype(np.int64))
        tags.append(np.array(names, dtype=object)[pairs.col[new]])
        rest[pairs.row] = False
    return Content.from_pairs(np.concatenate(items), np.concatenate(tags), parts[0].maker, parts[0].maker_name)
