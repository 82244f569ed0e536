"""Split of a log by users: each bucket of users becomes a sorted file of narrow rows, and a file of sessions.

Rows pass through files, so that memory holds one batch of rows, or the rows of one group of buckets. Each batch of the
log is sorted by group and written as one file of pieces; a piece is an Arrow stream of the rows of one group. The rows
of a group are its pieces from all files, in any order; the column `order` restores their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeAlias
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from prefrec_ray import storage
from prefrec_ray.dataset.prepare.rows import REASONS, UNEXAMINED, RowRules
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.dataset.prepare.unexamined import separate
from prefrec_ray.engagement import depth_levels, frequency_levels, session_numbers, session_table, whole_dwell
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream, codes, first_rows, fraction, hash_ids, run_lengths
from prefrec_ray.logs.contract import Side
from prefrec_ray.logs.log import Log
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import SPLITS
from prefrec_ray.storage.parquet import write_parquet

_READ = "read the log: rows"
#: One row per user, and the number of dropped rows by reason.
Written: TypeAlias = tuple[pa.Table | None, dict[str, int]]
#: Groups of buckets, at most. With one piece per bucket and file, their number would grow with the square of the rows.
GROUPS = 512
#: Rows per file, of about a hundred bytes each. A group gets thousands of them.
ROWS_OF_FILE = 1 << 20


@dataclass(frozen=True, eq=False)
class LogUsers:
    """All users, by bucket and then by id. The driver holds no other part of a log as a whole."""

    ids: pa.Array  # int64 or string [U]
    bucket: np.ndarray  # int64 [U], ascending
    requests: np.ndarray  # int64 [U], impressions
    steps: np.ndarray  # int64 [U], pages
    transitions: np.ndarray  # int64 [U], impressions before the last page
    sessions: np.ndarray  # int64 [U]
    split: np.ndarray  # int8 [U], index into SPLITS
    dropped: dict[str, int]  # rows of the log without an impression, by reason

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the numbers of users, sessions, impressions and transitions of each split."""
        counts: dict[str, dict[str, int]] = {}
        for code, name in enumerate(SPLITS):
            rows = self.split == code
            counts[name] = {
                "users": int(rows.sum()),
                "sessions": int(self.sessions[rows].sum()),
                "requests": int(self.requests[rows].sum()),
                "transitions": int(self.transitions[rows].sum()),
            }
        return counts


def split_by_user(
    log: Log, settings: PrepareSettings, row_rules: RowRules, partitions: int, folder: str, progress: Progress
) -> LogUsers:
    """Write `work/part-k.arrow` and `sessions/part-k.parquet` below `folder` for every bucket k with users.

    Raises `UserError` if rows break the contract and must not be dropped, and if no row remains.
    """
    storage.make_folder(storage.join(folder, "sessions"))
    rows_folder = storage.join(folder, "work", "rows")
    pieces = partition_by_user(log.interactions(), settings.seed, partitions, rows_folder, progress)
    write = partial(write_bucket, settings=settings, row_rules=row_rules, folder=folder)
    shared = ray.put(write)
    groups = run_tasks(
        lambda group: _write.remote(
            shared, pieces[group], rows_folder, settings.seed, partitions, partitions <= GROUPS
        ),
        pieces,
        "group by user: files",
        progress,
    )
    written = [of_bucket for group in groups for of_bucket in group]
    storage.remove(rows_folder)
    row_rules.side.check()
    if not written:
        raise UserError(_nothing_left(row_rules.side))
    dropped = {reason: sum(of_bucket[reason] for _, of_bucket in written) for reason in REASONS}
    tables = [users for users, _ in written if users is not None]
    if not tables:
        raise UserError(f"found no impressions in the log (rows dropped: {dropped}); expected some")
    table = pa.concat_tables(tables)
    names = [field.name for field in fields(LogUsers) if field.name in table.column_names]
    columns = {name: table[name].to_numpy() for name in names}
    return LogUsers(ids=table["user_id"].combine_chunks(), dropped=dropped, **columns)


def _nothing_left(side: Side) -> str:
    if side.reasons():
        return "every row of the log breaks the contract; expected some that do not"
    return "the log has no rows of the kind that the source selects; expected some"


@ray.remote(num_cpus=1)
def _write(
    write: Callable[[pa.Table, int], Written], pieces: pa.Table, folder: str, seed: int, buckets: int, single: bool
) -> list[Written]:
    """Write the buckets of a group; with `single`, the group is one bucket."""
    rows = read_pieces(pieces, folder)
    if single:
        return [write(rows, pieces["group"][0].as_py())]
    return [write(part, bucket) for bucket, part in _parts(rows, buckets_of(rows["user_id"], seed, buckets))]


def _parts(rows: pa.Table, key: np.ndarray) -> Iterator[tuple[int, pa.Table]]:
    """Yield each value of `key` (int64 [N]), ascending, with its rows in their order."""
    order = key.argsort(kind="stable")
    rows = rows.take(pa.array(order))
    values, first = np.unique(key[order], return_index=True)
    for value, begin, size in zip(values.tolist(), first, run_lengths(first, len(order)), strict=True):
        yield value, rows.slice(begin, size)


def buckets_of(ids: pa.ChunkedArray, seed: int, buckets: int) -> np.ndarray:
    """Return the bucket of each user, int64 [N]: a hash of the id."""
    return (hash_ids(ids, seed, Stream.BUCKET) % np.uint64(buckets)).astype(np.int64)


def split_of(ids: pa.Array, settings: PrepareSettings) -> np.ndarray:
    """Return the split of each user, int8 [U]: a hash of the id, independent of the rest of the log."""
    place = fraction(hash_ids(ids, settings.seed, Stream.SPLIT))
    borders = [settings.train_fraction, settings.train_fraction + settings.validation_fraction]
    return np.searchsorted(borders, place, side="right").astype(np.int8)


def write_bucket(rows: pa.Table, bucket: int, settings: PrepareSettings, row_rules: RowRules, folder: str) -> Written:
    """Sort the rows of one bucket, compute their sessions and write both.

    Returns one row per user, and the number of dropped rows by reason. If no row remains, nothing is written, and the
    first result is None. The file contains the canonical columns, by user and page, with `step` (int64, the page's
    number), `session` (int64, its number) and `split` (int8) instead of session_id and order. Items that users did not
    examine go to `unexamined/part-k.parquet`.
    """
    rows = rows.sort_by([(name, "ascending") for name in ("user_id", "timestamp", "order")])
    rows, dropped = row_rules(rows, bucket)
    if rows.num_rows and {"page", "examined"} & set(rows.column_names):  # otherwise each row is an examined item
        own = codes(rows["user_id"])
        own_split = split_of(rows["user_id"].take(pa.array(first_rows(own))).combine_chunks(), settings)[own]
        known, rng = row_rules.all_examined(rows), np.random.default_rng((settings.seed, Stream.EXAMINED, bucket))
        rows, unexamined, dropped[UNEXAMINED] = separate(rows, own_split, known, row_rules.feedback, rng)
        if len(unexamined):
            storage.make_folder(storage.join(folder, "unexamined"))
            write_parquet(unexamined, storage.join(folder, "unexamined", f"part-{bucket:05d}.parquet"))
    if not rows.num_rows:
        return None, dropped
    user = codes(rows["user_id"])
    starts = first_rows(user)
    pages = Pages.from_steps(starts, rows["step"].to_numpy(), len(rows))
    of_page, timestamp = user[pages.first], rows["timestamp"].to_numpy()[pages.first]
    given = "session_id" in rows.column_names  # these ids end sessions, instead of the session timeout
    session_id = codes(rows["session_id"])[pages.first] if given else None
    number = session_numbers(of_page, timestamp, settings.session_gap_ms, session_id)
    ids = rows["user_id"].take(pa.array(starts)).combine_chunks()
    split = split_of(ids, settings)

    has_dwell = "dwell_ms" in rows.column_names
    dwell_ms = pages.sums(whole_dwell(rows["dwell_ms"].to_numpy())) if has_dwell else None
    sessions = session_table(of_page, timestamp, number, dwell_ms)
    table = pa.table(
        {
            "user_id": ids.take(pa.array(sessions.user)),
            "session_index": sessions.session_index,
            "start": sessions.start,
            "exit": sessions.exit,
            "depth": sessions.depth,
            "revisit_ms": pa.array(sessions.revisit_ms, from_pandas=True).cast(pa.int64()),
            "level_depth": depth_levels(sessions.user, sessions.depth),
            "level_frequency": pa.array(frequency_levels(sessions.user, sessions.revisit_ms), from_pandas=True),
            "split": pa.array(np.array(SPLITS)[split[sessions.user]]),
        }
    )
    write_parquet(table, storage.join(folder, "sessions", f"part-{bucket:05d}.parquet"))

    rows = rows.drop_columns(["order", *(["session_id"] if given else [])])
    rows = rows.append_column("session", pa.array(number[pages.of_row]))
    rows = rows.append_column("split", pa.array(split[user]))
    system, path = storage.filesystem(work_file(folder, bucket))
    with system.open_output_stream(path) as stream, pa.ipc.new_file(stream, rows.schema) as writer:
        writer.write_table(rows)
    users = {
        "user_id": ids,
        "bucket": np.full(len(ids), bucket),
        "requests": np.bincount(user, minlength=len(ids)),
        "steps": np.bincount(of_page, minlength=len(ids)),
        "transitions": np.bincount(user[pages.transitions()[0]], minlength=len(ids)),
        "sessions": np.bincount(sessions.user, minlength=len(ids)),
        "split": split,
    }
    return pa.table(users), dropped


def work_file(folder: str, bucket: int) -> str:
    """Return the file of a bucket's narrow rows, which is removed when the data set is complete."""
    return storage.join(folder, "work", f"part-{bucket:05d}.arrow")


def read_bucket(folder: str, bucket: int, columns: list[str] | None = None) -> pa.Table:
    """Return the rows that `write_bucket` wrote."""
    system, path = storage.filesystem(work_file(folder, bucket))
    with system.open_input_file(path) as stream:
        table = pa.ipc.open_file(stream).read_all()
    return table if columns is None else table.select(columns)


def partition_by_user(
    interactions: ray.data.Dataset, seed: int, buckets: int, folder: str, progress: Progress
) -> dict[int, pa.Table]:
    """Write the rows of a log to files in `folder`; return the pieces of every group of buckets, for `read_pieces`."""
    storage.make_folder(folder)
    written = interactions.map_batches(
        _write_pieces,
        batch_size=ROWS_OF_FILE,
        batch_format="pyarrow",
        zero_copy_batch=True,
        fn_kwargs={"seed": seed, "buckets": buckets, "groups": min(buckets, GROUPS), "folder": folder},
    )
    tables, rows = [], 0
    progress(_READ, 0, 0)
    for table in written.iter_batches(batch_size=None, batch_format="pyarrow"):
        if table.num_rows:
            tables.append(table)
            rows += pc.sum(table["rows"]).as_py()
            progress(_READ, rows, 0)
    if not tables:
        return {}
    progress(_READ, rows, rows)
    pieces = pa.concat_tables(tables)
    return dict(_parts(pieces, pieces["group"].to_numpy()))


def read_pieces(pieces: pa.Table, folder: str) -> pa.Table:
    """Return the rows of one group."""
    tables = []
    for piece in pieces.to_pylist():
        system, path = storage.filesystem(storage.join(folder, piece["file"]))
        with system.open_input_file(path) as stream:
            tables.append(pa.ipc.open_stream(stream.read_at(piece["bytes"], piece["begin"])).read_all())
    return pa.concat_tables(tables)


def _write_pieces(rows: pa.Table, seed: int, buckets: int, groups: int, folder: str) -> Iterator[pa.Table]:
    """Write one file, and yield one row per piece: group, name of the file, first byte, bytes, and rows."""
    if not rows.num_rows:
        return
    present, parts = zip(*_parts(rows, buckets_of(rows["user_id"], seed, buckets) * groups // buckets), strict=True)
    # A task may run twice: each run writes its own file, and only the returned files are read.
    file = uuid4().hex
    system, path = storage.filesystem(storage.join(folder, file))
    borders = [0]
    with system.open_output_stream(path) as stream:
        for part in parts:
            with pa.ipc.new_stream(stream, rows.schema) as writer:
                writer.write_table(part)
            borders.append(stream.tell())
    yield pa.table(
        {
            "group": present,
            "file": [file] * len(present),
            "begin": borders[:-1],
            "bytes": np.diff(borders),
            "rows": [len(part) for part in parts],
        }
    )
