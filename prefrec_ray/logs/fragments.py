"""Fragments of files, read batch by batch: row groups of Parquet and whole CSV files."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import Convert, Part, Place, Reason, Side, clean, part_of
from prefrec_ray.logs.listing import COMPRESSED, is_csv, readable
from prefrec_ray.logs.schemas import BLOCK_BYTES, HEAD, PLAIN, THREADS, CsvFormat
from prefrec_ray.logs.values import plain, plain_schema, visible

if TYPE_CHECKING:
    import ray.data

_BATCH = 1 << 16
#: Tasks that read a log, at most; more if the cluster has more CPUs.
READ_TASKS = 256
_PACKED = 4  # bytes of text in a byte of a compressed file, about


def read_clean(file: str, columns: list[str], convert: Convert, part: Part | None, form: CsvFormat = PLAIN) -> pa.Table:
    """Return `columns` of a whole file, converted. The file is a table of users or items, number -1 of the log."""
    empty = {name: pa.array([], pa.string()) for name in columns}  # a CSV file with only a header has no batches
    place = Place(file, -1)
    found = list(batches(place, columns, form=form, part=part))
    rows = [np.zeros(0, np.int64), *(here.row_numbers(len(table)) for table, here in found)]
    whole = pa.concat_tables([table for table, _ in found] or [pa.table(empty)])
    return clean(whole, replace(place, rows=np.concatenate(rows)), convert, part)


def read_files(
    files: list[str], columns: list[str], convert: Convert, side: Side | None = None, form: CsvFormat = PLAIN
) -> dict[str, Any]:
    """Return the fields `interactions`, `tables` and `rows` of a `Log` of files, with rows converted batch by batch.

    Rows for which `convert` raises `BadRows` go to `side`; without `side` they are a `UserError`, as is a log without
    rows. The number of rows is estimated for CSV.
    """
    fragments, rows = list_fragments(files, form)
    options: dict[str, Any] = {"columns": columns, "convert": convert, "side": side, "form": form}

    def interactions() -> ray.data.Dataset:
        import ray.data  # a second of imports, for which small logs do not wait

        blocks = min(len(fragments), max(READ_TASKS, int(ray.cluster_resources().get("CPU", 0))))
        return ray.data.from_items(fragments, override_num_blocks=blocks).map_batches(
            _read_fragments, batch_size=None, batch_format="pyarrow", fn_kwargs=options
        )

    def tables() -> Iterator[pa.Table]:
        return _read_fragments(pa.Table.from_pylist(fragments), **options)

    return {"interactions": interactions, "tables": tables, "rows": rows}


def list_fragments(files: Sequence[str], form: CsvFormat = PLAIN) -> tuple[list[dict[str, Any]], int]:
    """Return the fragments (file, number, row group, first row) and the number of rows; `UserError` without rows."""
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = list(pool.map(lambda file: [_estimate_rows(file, form)] if is_csv(file) else _row_groups(file), files))
    rows = sum(map(sum, sizes))
    if not rows:
        raise empty_log(files)
    fragments = [
        {"file": file, "number": number, "group": -1 if is_csv(file) else group, "first": sum(of_file[:group])}
        for number, (file, of_file) in enumerate(zip(files, sizes, strict=True))
        for group in range(len(of_file))
    ]
    return fragments, rows


def empty_log(files: Sequence[str]) -> UserError:
    """Return the error for a log with `files` without rows."""
    more = f" (and {len(files) - 1} more files)" if len(files) > 1 else ""
    return UserError(f"{files[0]}{more}: the log is empty; expected interactions")


def _read_fragments(
    fragments: pa.Table, columns: list[str], convert: Convert, side: Side | None, form: CsvFormat
) -> Iterator[pa.Table]:
    for fragment in fragments.to_pylist():
        name = f"{fragment['number']:05d}-{fragment['group'] + 1:05d}"
        place = Place(fragment["file"], fragment["number"], fragment["first"])
        with part_of(side, name) as part:
            for table, here in batches(place, columns, fragment["group"], form, part):
                yield clean(table, here, convert, part)


def batches(
    place: Place, columns: list[str], group: int | None = None, form: CsvFormat = PLAIN, part: Part | None = None
) -> Generator[tuple[pa.Table, Place], None, None]:
    """Yield tables of at most 65,536 rows, or 1 MiB of CSV, and their places; columns of CSV are text, as written.

    `place`: of the first row. `group`: a row group of Parquet, or None for all. CSV lines with too few or too many
    values go to `part`, or are a `UserError`.
    """
    if is_csv(place.file):
        yield from _csv_batches(place, columns, form, part)
        return
    system, path = storage.filesystem(place.file)
    with readable(place.file), system.open_input_file(path) as stream:
        parquet = pq.ParquetFile(stream, page_checksum_verification=True)
        groups = list(range(parquet.num_row_groups)) if group is None else [group]
        for batch in parquet.iter_batches(_BATCH, row_groups=groups, columns=columns, use_threads=False):
            yield plain(pa.Table.from_batches([batch])), place
            place = replace(place, first_row=place.first_row + batch.num_rows)
        if not groups:
            yield plain_schema(parquet.schema_arrow).empty_table().select(columns), place


def _csv_batches(
    place: Place, columns: list[str], form: CsvFormat, part: Part | None
) -> Iterator[tuple[pa.Table, Place]]:
    skipped: list[csv.InvalidRow] = []  # pyarrow appends to it while it reads ahead
    bad, first = np.zeros(0, np.int64), 0
    rows_read = int(form.names is None)  # with the header
    with form.open(place.file, skipped, columns) as lines:
        for batch in lines.reader:
            refused = list(skipped)
            del skipped[: len(refused)]
            _refuse_lines(refused, place, part, form)
            bad = np.concatenate([bad[bad >= first], np.array([form.row(line) for line in refused], np.int64)])
            rows = _free_numbers(first, batch.num_rows, bad)
            yield pa.Table.from_batches([batch]), replace(place, rows=rows)
            first = int(rows[-1]) + 1 if len(rows) else first
            rows_read += len(rows) + len(refused)
        if lines.count > rows_read + len(skipped):  # values have line breaks
            form.check_quotes(place.file)
        _refuse_lines(skipped, place, part, form)


def _free_numbers(first: int, count: int, taken: np.ndarray) -> np.ndarray:
    """Return the `count` smallest numbers from `first` on that are not `taken`, int64, ascending."""
    taken = taken[taken >= first]
    return np.setdiff1d(np.arange(first, first + count + len(taken)), taken, assume_unique=True)[:count]


def _refuse_lines(lines: list[csv.InvalidRow], place: Place, part: Part | None, form: CsvFormat) -> None:
    if not lines:
        return
    line = lines[0]
    reason = Reason(
        column="",
        expected=f"{line.expected_columns} in every line",
        rows=len(lines),
        number=place.number,
        file=place.file,
        row=form.row(line) + 1,
        found=f"found {line.actual_columns} values ({visible(line.text[:80])})",
    )
    if part is None:
        raise UserError(str(reason))
    texts = [line.text for line in lines]
    part.add(reason, [form.row(line) + 1 for line in lines], texts, texts)


def _row_groups(file: str) -> list[int]:
    system, path = storage.filesystem(file)
    with readable(file):
        metadata = pq.read_metadata(path, filesystem=system)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _estimate_rows(file: str, form: CsvFormat) -> int:
    """Return the number of rows of a CSV file, estimated from its first block; 0 for a file with only a header."""
    skipped: list[csv.InvalidRow] = []
    with form.open(file, skipped, blocks=HEAD) as lines:
        rows = next((batch.num_rows for batch in lines.reader), 0) + len(skipped)
    system, path = storage.filesystem(file)
    size = system.get_file_info(path).size * (_PACKED if file.endswith(COMPRESSED) else 1)
    return rows * max(1, size // BLOCK_BYTES)
