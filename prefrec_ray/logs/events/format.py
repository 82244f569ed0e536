"""Rows of the event log, their kinds and columns, and the description of a log in log.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.settings import Settings, parse
from prefrec_ray.storage import seal

#: Names in the log's folder: its description, the folder of its files, and the file of its items.
FILE, SEGMENTS, ITEMS = "log.json", "events", "items.parquet"
SUFFIX = ".arrow"
SCHEMA_VERSION = 2
#: Rows of recommendations and feedback from which a group commit takes no further request.
COMMIT = 32


class Kind(IntEnum):
    """Kind of a row. Logs contain these values, so they never change."""

    RECOMMENDED = 1  # items recommended to a user, and the propensities of the draws
    FEEDBACK = 2  # feedback of a user on one item: an impression of the data set
    ITEM = 4  # an item that was added
    WITHDRAWN = 5  # an item that was withdrawn
    ARMS = 6  # the arms from now on: JSON in `note`
    SKIPPED = 7  # no event: a row with this number was removed or may have been lost; the number is not used again


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


class About(Settings):
    """Ids, feedback in the order of the rows' lists, its kinds, the categories of user features, session timeout."""

    log_id: Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
    item_ids: Literal["int64", "string"]
    feedback: tuple[str, ...]
    feedback_kinds: dict[str, str]
    user_features: dict[str, tuple[str, ...]]
    session_gap_ms: Annotated[int, Field(ge=1)]

    @property
    def item_type(self) -> pa.DataType:
        """Return the type of the ids of items."""
        return pa.int64() if self.item_ids == "int64" else pa.string()

    @property
    def columns(self) -> pa.Schema:
        """Return the columns of the rows."""
        return schema(self.item_type)

    def check_same(self, other: About, where: str) -> None:
        """Raise `UserError`, which begins with `where`, if `other` describes other events."""
        expected, found = (about.model_dump(mode="json", exclude={"log_id"}) for about in (self, other))
        for key in expected:
            if expected[key] != found[key]:
                raise UserError(f"{where}: {key}: found {found[key]}; expected {expected[key]}")


def read_about(folder: str) -> About:
    """Return the description of the log in `folder`.

    Raises `UserError` for a folder that no server wrote, another schema version, and a damaged file.
    """
    file = storage.join(folder, FILE)
    if not storage.exists(file):
        raise UserError(
            f"{folder}: no folder of events ({FILE} is missing); expected the folder of `prefrec serve --state`"
        )
    value = storage.read_json(file)
    version = value.pop("schema_version", None) if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{file}: found schema version {version}; expected {SCHEMA_VERSION}")
    if not seal.intact(storage.read_bytes(file)):
        raise UserError(f"{file}: damaged: its checksum differs; expected the file as it was written")
    del value["seal"]
    return parse(About, value, file)


def write_about(folder: str, about: About) -> None:
    """Write the description of the log in `folder`; it is on the disk when this returns."""
    value = about.model_dump(mode="json") | {"schema_version": SCHEMA_VERSION, "seal": seal.BLANK}
    storage.write_bytes(storage.join(folder, FILE), seal.fill((json.dumps(value, indent=2) + "\n").encode()))
    storage.sync(folder)
