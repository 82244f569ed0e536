"""A log as a few integers per row, for counting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.ids import hash_ids, mix
from prefrec_ray.inspection.roles import Roles
from prefrec_ray.inspection.units import milliseconds
from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.fragments import read
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.schemas import CsvFormat
from prefrec_ray.logs.values import is_text

#: The bucket of rows without a user, an item or a time; these are only counted.
INCOMPLETE = -1
_ID_KEY, _BUCKET_KEY = 1, 2
_INTEGER = r"^(0|-?[1-9]\d{0,17})$"
_ROWS_OF_BUCKET = 1 << 20
_MIN_BUCKETS, _FEW_ROWS = 4, 1 << 17  # more rows than this take several buckets, to keep several cores busy


@dataclass(frozen=True)
class LogRows:
    """The rows of a log in Ray Data, and the number of buckets of users.

    Columns, all int64: bucket, user and item (hashes), time (ms), order (position in the log), row (a hash of all
    columns), used (a hash of the columns with a role)[, session].
    """

    dataset: Any
    buckets: int


def rows_of_files(files: list[str], columns: list[str], roles: Roles, form: CsvFormat) -> LogRows:
    """Return the rows of files, from their `columns`."""
    dataset, rows = read(files, columns, _FileRows(roles), None, form)
    return _with_bucket(dataset, rows)


def rows_of_log(log: Log) -> LogRows:
    """Return the rows of an open log."""
    dataset = log.interactions.map_batches(_of_canonical, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
    return _with_bucket(dataset, log.rows)


def column_hash(column: pa.ChunkedArray, key: int) -> np.ndarray:
    """Return hashes, uint64 [n]: equal values have equal hashes, and so have empty cells."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if any(check(kind) for check in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)):
        hexadecimal = [value and value.hex() for value in column.to_pylist()]  # it need not be UTF-8
        column = pa.chunked_array([hexadecimal], pa.string())
    empty = column.is_null().to_numpy()
    if pa.types.is_floating(kind):
        bits = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy().view(np.int64)
        hashes = mix(bits, key)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        hashes = mix(pc.fill_null(column.cast(pa.int64(), safe=False), 0).to_numpy(), key)
    elif pa.types.is_timestamp(kind):
        hashes = mix(pc.fill_null(column.cast(pa.int64()), 0).to_numpy(), key)
    else:
        hashes = hash_ids(pc.fill_null(column.cast(pa.string()), ""), key)
    return np.where(empty, mix(np.array([key]), key, key), hashes)


@dataclass(frozen=True)
class _FileRows:
    """Rows of files, from the columns with these roles."""

    roles: Roles

    def __call__(self, table: pa.Table, place: Place) -> pa.Table:
        roles = self.roles
        time, complete = milliseconds(table[roles.time], roles.time_unit, roles.time_format, place, roles.time)
        for name in (roles.user, roles.item):
            complete &= ~table[name].is_null().to_numpy()
        columns = {
            "complete": complete,
            "user": _id_hash(table[roles.user]),
            "item": _id_hash(table[roles.item]),
            "time": time,
            "order": place.order(table.num_rows),
            "row": _row_hash(table, table.column_names),
            "used": _row_hash(table, roles.columns),
        }
        if roles.session:
            columns["session"] = _id_hash(table[roles.session])
        return pa.table(columns)


def _of_canonical(table: pa.Table) -> pa.Table:
    columns = {
        "complete": np.ones(table.num_rows, dtype=bool),
        "user": _id_hash(table["user_id"]),
        "item": _id_hash(table["item_id"]),
        "time": table["timestamp"],
        "order": table["order"],
        "used": _row_hash(table, [name for name in table.column_names if name not in ("order", "row_hash")]),
    }
    columns["row"] = table["row_hash"] if "row_hash" in table.column_names else columns["used"]
    if "session_id" in table.column_names:
        columns["session"] = _id_hash(table["session_id"])
    return pa.table(columns)


def _id_hash(column: pa.ChunkedArray) -> np.ndarray:
    """Hash ids, as integers if possible, because an id is text in CSV and may be a number in Parquet."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not is_text(column.type):
        return column_hash(column.cast(pa.int64(), safe=False), _ID_KEY).view(np.int64)
    whole = pc.fill_null(pc.match_substring_regex(column, _INTEGER), False)
    hashes = np.empty(len(column), dtype=np.uint64)
    for rows, kind in ((whole, pa.int64()), (pc.invert(whole), column.type)):
        hashes[rows.to_numpy()] = column_hash(column.filter(rows).cast(kind), _ID_KEY)
    return hashes.view(np.int64)


def _row_hash(table: pa.Table, names: list[str]) -> np.ndarray:
    total = np.zeros(table.num_rows, dtype=np.uint64)
    for number, name in enumerate(names):
        total = mix(total.view(np.int64), 0) ^ column_hash(table[name], number)
    return total.view(np.int64)


def _with_bucket(dataset: Any, rows: int) -> LogRows:
    buckets = max(_MIN_BUCKETS if rows > _FEW_ROWS else 1, rows // _ROWS_OF_BUCKET)

    def add(table: pa.Table) -> pa.Table:
        bucket = (mix(table["user"].to_numpy(), _BUCKET_KEY) % np.uint64(buckets)).astype(np.int64)
        bucket = np.where(table["complete"].to_numpy(zero_copy_only=False), bucket, INCOMPLETE)
        return table.drop_columns(["complete"]).append_column("bucket", pa.array(bucket))

    return LogRows(dataset.map_batches(add, batch_size=None, batch_format="pyarrow", zero_copy_batch=True), buckets)
