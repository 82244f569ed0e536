"""Sessions and levels of a simulator's log against polars: `python -m benchmarks sessions LOGS`.

The product's stage reads the log, checks every row against the contract, parts it by users through files, sorts, finds
sessions and levels, and writes both, a bucket of users at a time; it never holds the log. Polars does the same in one
query in memory, without checks. Both use all cores, and must find the same sessions and levels.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.harness import Comparison, compared, interleave
from prefrec_ray.dataset.prepare.rows import RowRules
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.dataset.prepare.users import split_by_user
from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import Side
from prefrec_ray.logs.sources import SimulatorSource
from prefrec_ray.runtime import start_ray
from prefrec_ray.runtime.progress import silent

#: Rows of a bucket in memory, as in `prepare` for states of 245 numbers.
_ROWS_OF_A_BUCKET = 65_536


def product(logs: str, folder: str) -> None:
    """`sessions/` and `work/` below `folder`."""
    settings = PrepareSettings(source=SimulatorSource(kind="simulator", path=logs))
    side = Side(folder, keep_rows=False)
    log = settings.source.open_log(settings.seed, side)
    partitions = max(1, -(-log.rows // _ROWS_OF_A_BUCKET))
    split_by_user(log, settings, RowRules.from_log(log, side, None), partitions, folder, silent)


def with_polars(logs: str, folder: str, gap_ms: int) -> None:
    """`sessions.parquet` and `rows.arrow` in `folder`; sessions by Eq. 11's definitions (engagement.py)."""
    user, time = pl.col("user_id"), pl.col("timestamp")
    rows = pl.read_parquet(f"{logs}/interactions/*.parquet").sort("user_id", "timestamp", maintain_order=True)
    opens = (user != user.shift(1)).fill_null(True) | (time.diff() > gap_ms).fill_null(True)
    rows = rows.with_columns(opens.cast(pl.Int64).alias("session"))
    rows = rows.with_columns(pl.col("session").cum_sum().over("user_id") - 1)
    sessions = rows.group_by("user_id", "session", maintain_order=True).agg(
        time.min().alias("start"), time.max().alias("exit"), pl.len().cast(pl.Int64).alias("depth")
    )
    pause = pl.col("start").shift(-1).over("user_id") - pl.col("exit")
    sessions = sessions.with_columns(pl.max_horizontal(pause, pl.when(pause.is_not_null()).then(1)).alias("revisit_ms"))
    depth, revisit = pl.col("depth"), pl.col("revisit_ms")
    sessions = sessions.with_columns(
        (depth / depth.mean().over("user_id")).floor().clip(0, 5).alias("level_depth"),
        (revisit.mean().over("user_id") / revisit).floor().clip(0, 5).alias("level_frequency"),
    )
    sessions.write_parquet(f"{folder}/sessions.parquet")
    rows.write_ipc(f"{folder}/rows.arrow", compression="uncompressed")


def check_equal(ours: str, theirs: str) -> None:
    """Raises `UserError` where sessions or levels differ."""
    columns = ["user_id", "start", "exit", "depth", "level_depth", "level_frequency"]
    both = [pl.read_parquet(files).select(columns).sort("user_id", "start") for files in (ours, theirs)]
    if not both[0].equals(both[1]):
        raise UserError("sessions: the product and polars differ")


def main(log: Path, repetitions: int = 5) -> dict[str, Any]:
    """Prints requests a second."""
    start_ray()
    logs = str(log)
    gap_ms = PrepareSettings(source=SimulatorSource(kind="simulator", path=logs)).session_gap_ms
    with tempfile.TemporaryDirectory() as scratch:
        fresh = partial(tempfile.mkdtemp, dir=scratch)
        ours, theirs = fresh(), fresh()
        product(logs, ours)
        with_polars(logs, theirs, gap_ms)
        check_equal(f"{ours}/sessions/*.parquet", f"{theirs}/sessions.parquet")
        rows = pl.scan_parquet(f"{logs}/interactions/*.parquet").select(pl.len()).collect().item()
        contenders = {
            "product": lambda: product(logs, fresh()),
            "polars": lambda: with_polars(logs, fresh(), gap_ms),
        }
        rates = interleave(contenders, rows, repetitions)
    return compared(Comparison("sessions and levels of a log", "requests/s", rates, [("product", "polars")]))
