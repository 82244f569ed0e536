"""Split of a log by users: each bucket of users becomes a sorted file of narrow rows, and a file of sessions.

Ray Data shuffles the rows by bucket. The blocks of a bucket arrive in any order; the column `order` restores the order
of their rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

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
from prefrec_ray.ids import Stream, codes, first_rows, fraction, hash_ids
from prefrec_ray.logs.contract import Side
from prefrec_ray.logs.log import Log
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.settings import SPLITS
from prefrec_ray.storage.parquet import write_parquet

#: Column of the bucket of each row while rows are shuffled. The name is reserved, so that no feedback has it.
_BUCKET = "split"
#: Rows of a block, of about a hundred bytes each, and the most parts into which a block is cut: parts of less than
#: 100 KB would be in the memory of the driver instead of the object store.
_ROWS, _PARTS = 1 << 20, 512
#: Counts of each user.
_COUNTS = ("requests", "steps", "transitions", "sessions", "split")


@dataclass(frozen=True, eq=False)
class LogUsers:
    """All users, by bucket and then by id. The driver holds no other part of a log as a whole."""

    ids: pa.Array  # int64 or string [U]
    bucket: np.ndarray  # int64 [U], ascending
    requests: np.ndarray  # int64 [U], impressions
    steps: np.ndarray  # int64 [U], pages
    transitions: np.ndarray  # int64 [U], impressions before the last page
    sessions: np.ndarray  # int64 [U]
    split: np.ndarray  # int64 [U], index into SPLITS
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
    log: Log, settings: PrepareSettings, row_rules: RowRules, buckets: int, folder: str, progress: Progress
) -> LogUsers:
    """Write `work/part-k.arrow` and `sessions/part-k.parquet` below `folder` for every bucket k with users.

    Raises `UserError` if rows break the contract and must not be dropped, and if no row remains.
    """
    for name in ("sessions", "work"):
        storage.make_folder(storage.join(folder, name))
    with_bucket = partial(_with_bucket, seed=settings.seed, buckets=buckets)
    interactions = log.interactions().map_batches(
        with_bucket, batch_size=_ROWS, batch_format="pyarrow", zero_copy_batch=True
    )
    blocks = _computed(interactions, "read the log: rows", progress)
    if not blocks:
        row_rules.side.check()
        raise UserError(_nothing_left(row_rules.side))
    rows = ray.data.from_arrow_refs(blocks).sort(_BUCKET, boundaries=list(range(1, buckets + 1, -(-buckets // _PARTS))))
    write_buckets = partial(_write_buckets, settings=settings, row_rules=row_rules, folder=folder)
    written = rows.map_batches(write_buckets, batch_size=None, batch_format="pyarrow")
    table = pa.concat_tables(ray.get(_computed(written, "group by user: files", progress, buckets))).sort_by("bucket")
    row_rules.side.check()
    dropped = {reason: pc.sum(table[reason]).as_py() for reason in REASONS}
    lists = {name: table[name].combine_chunks() for name in ("user_id", *_COUNTS)}
    ids, *counts = (column.flatten() for column in lists.values())
    if not len(ids):
        raise UserError(f"found no impressions in the log (rows dropped: {dropped}); expected some")
    return LogUsers(
        ids=ids,
        bucket=np.repeat(table["bucket"].to_numpy(), lists["user_id"].value_lengths()),
        dropped=dropped,
        **{name: column.to_numpy() for name, column in zip(_COUNTS, counts, strict=True)},
    )


def _computed(dataset: ray.data.Dataset, stage: str, progress: Progress, total: int = 0) -> list[ray.ObjectRef]:
    """Return references to the blocks (Arrow tables) of `dataset` that have rows; `total`: its rows, if known."""
    blocks: list[ray.ObjectRef] = []
    done = 0
    progress(stage, 0, total)
    for bundle in dataset.iter_internal_ref_bundles():
        if bundle.num_rows():
            blocks += bundle.block_refs
            done += bundle.num_rows()
            progress(stage, done, total)
    progress(stage, done, done)  # some buckets may have no user
    return blocks


def _nothing_left(side: Side) -> str:
    if side.reasons():
        return "every row of the log breaks the contract; expected some that do not"
    return "the log has no rows of the kind that the source selects; expected some"


def _with_bucket(rows: pa.Table, seed: int, buckets: int) -> pa.Table:
    bucket = buckets_of(rows["user_id"], seed, buckets) if rows.num_rows else np.zeros(0, np.int64)
    return rows.append_column(_BUCKET, pa.array(bucket))


def _write_buckets(rows: pa.Table, settings: PrepareSettings, row_rules: RowRules, folder: str) -> Iterator[pa.Table]:
    """Write the buckets of a block; yield one row per bucket: users and their counts as lists, dropped rows by reason.

    A bucket is in one block, and a block has any number of buckets.
    """
    for bucket in pc.unique(rows[_BUCKET]).to_pylist() if rows.num_rows else ():
        own = rows.filter(pc.equal(rows[_BUCKET], bucket)).drop_columns([_BUCKET])
        users, dropped = write_bucket(own, bucket, settings, row_rules, folder)
        columns = {
            name: pa.ListArray.from_arrays([0, len(users)], column.combine_chunks())
            for name, column in zip(users.column_names, users.columns, strict=True)
        }
        yield pa.table({"bucket": [bucket], **columns, **{reason: [count] for reason, count in dropped.items()}})


def buckets_of(ids: pa.ChunkedArray, seed: int, buckets: int) -> np.ndarray:
    """Return the bucket of each user, int64 [N]: a hash of the id."""
    return (hash_ids(ids, seed, Stream.BUCKET) % np.uint64(buckets)).astype(np.int64)


def split_of(ids: pa.Array, settings: PrepareSettings) -> np.ndarray:
    """Return the split of each user, int8 [U]: a hash of the id, independent of the rest of the log."""
    place = fraction(hash_ids(ids, settings.seed, Stream.SPLIT))
    borders = [settings.train_fraction, settings.train_fraction + settings.validation_fraction]
    return np.searchsorted(borders, place, side="right").astype(np.int8)


def write_bucket(
    rows: pa.Table, bucket: int, settings: PrepareSettings, row_rules: RowRules, folder: str
) -> tuple[pa.Table, dict[str, int]]:
    """Sort the rows of one bucket, compute their sessions and write both.

    Returns one row per user, and the number of dropped rows by reason. If no row remains, nothing is written. The
    file contains the canonical columns, by user and page, with `step` (int64, the page's
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
        empty = pa.array([], pa.int64())
        return pa.table({"user_id": rows["user_id"], **dict.fromkeys(_COUNTS, empty)}), dropped
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
        "requests": np.bincount(user, minlength=len(ids)),
        "steps": np.bincount(of_page, minlength=len(ids)),
        "transitions": np.bincount(user[pages.transitions()[0]], minlength=len(ids)),
        "sessions": np.bincount(sessions.user, minlength=len(ids)),
        "split": split.astype(np.int64),
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
