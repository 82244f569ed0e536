"""Rows of the event log: their kinds and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import pyarrow as pa

#: Names in the log's folder: the folder of its files, and the file of its items.
SEGMENTS, ITEMS = "events", "items.parquet"
SUFFIX = ".arrow"
#: The most recommendations of a group commit. A shadow's row is in the same commit as the recommendation it shadows.
COMMIT = 32


class Kind(IntEnum):
    """Kind of a row. Logs contain these values, so they never change."""

    RECOMMENDED = 1  # items recommended to a user, and the propensities of the draws
    FEEDBACK = 2  # feedback of a user on one item: an impression of the data set
    SHADOWED = 3  # items that a shadow policy drew, not recommended to the user
    ITEM = 4  # an item that was added
    WITHDRAWN = 5  # an item that was withdrawn
    ARMS = 6  # the arms from now on: JSON in `note`
    SKIPPED = 7  # no event: a row with this number may have been lost, and the number is not used again


@dataclass(frozen=True)
class Event:
    """A row, without its number. Times are in ms, UTC.

    `timestamp` is the time that counts; it is never before an earlier FEEDBACK of the same user. `given` is the time
    that the client sent. A user id is a whole number (`user_number`) or text (`user`). `propensities` belong to
    `items`, NaN if unknown. `known` is True if the item of a FEEDBACK had an embedding; only then the row is an
    impression.
    """

    kind: Kind
    timestamp: int
    event_id: str = ""
    user: str | None = None
    user_number: int | None = None
    given: int | None = None
    received: int | None = None
    policy: str | None = None
    arm: str | None = None
    items: Sequence[Any] | None = None
    propensities: Sequence[float] | None = None
    feedback: Sequence[float] | None = None
    dwell_ms: float | None = None
    position: int | None = None
    known: bool | None = None
    embedding: Sequence[float] | None = None
    note: str | None = None


def schema(item_type: pa.DataType) -> pa.Schema:
    """Return the columns of the log: `number`, which counts rows over all files, then the fields of `Event`."""
    types = {
        "kind": pa.int8(),
        "timestamp": pa.int64(),
        "event_id": pa.string(),
        "user": pa.string(),
        "user_number": pa.int64(),
        "given": pa.int64(),
        "received": pa.int64(),
        "policy": pa.string(),
        "arm": pa.string(),
        "items": pa.list_(item_type),
        "propensities": pa.list_(pa.float64()),
        "feedback": pa.list_(pa.float32()),
        "dwell_ms": pa.float64(),
        "position": pa.int8(),
        "known": pa.bool_(),
        "embedding": pa.list_(pa.float32()),
        "note": pa.string(),
    }
    return pa.schema([("number", pa.int64()), *types.items()])


_NAMES = tuple(field.name for field in fields(Event))


def batch_of(events: Sequence[Event], first: int, columns: pa.Schema) -> pa.RecordBatch:
    """Return the rows `events`, numbered from `first`."""
    arrays = [pa.array(range(first, first + len(events)), pa.int64())]
    for name in _NAMES:
        arrays.append(pa.array([getattr(event, name) for event in events], columns.field(name).type))
    return pa.record_batch(arrays, schema=columns)
