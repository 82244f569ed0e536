"""Check of a prepared data set: every file exists and has the number of rows in the metadata."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.storage.parquet import read_footer

#: Footers are small, so that most of the time is spent waiting for storage.
_THREADS = 16
_ADVICE = "make the data set again by `prefrec prepare`"


def check_complete(dataset: PreparedDataset) -> None:
    """Read the footers of all files, and compare the numbers of rows.

    Raises `UserError` for a missing or damaged file, for another number of rows, and for contradictory metadata.
    """
    about, metadata = dataset.path("metadata.json"), dataset.metadata
    widths = {dataset.state.width, len(dataset.normaliser.mean), len(dataset.normaliser.std), metadata.state_dim}
    if len(widths) > 1:
        raise UserError(
            f"{about}: found state_dim {metadata.state_dim}; expected the width of state and normaliser; {_ADVICE}"
        )
    try:
        expected = _expected_rows(metadata.counts)
    except KeyError as error:
        raise UserError(f"{about}: counts: {error} is missing; {_ADVICE}") from error
    for folder, rows in expected.items():
        _check_rows(dataset, folder, rows)
    for name in ("items.parquet", *(["answers.npz"] if metadata.answers else [])):
        if not storage.exists(dataset.path(name)):
            raise UserError(f"{dataset.path(name)}: no such file in the data set; {_ADVICE}")


def _expected_rows(counts: dict[str, dict[str, int]]) -> dict[tuple[str, ...], int]:
    if not counts:
        return {}
    expected: dict[tuple[str, ...], int] = {
        ("requests", split): of_split["requests"] for split, of_split in counts.items()
    }
    expected[("sessions",)] = sum(of_split["sessions"] for of_split in counts.values())
    expected[("transitions",)] = counts["train"]["transitions"]
    return expected


def _check_rows(dataset: PreparedDataset, folder: tuple[str, ...], expected: int) -> None:
    files = dataset.files(*folder)
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = sum(pool.map(file_rows, files))
    if rows != expected:
        raise UserError(
            f"{dataset.path(*folder)}: found {rows:,} rows in {len(files)} files; expected {expected:,}"
            f" (metadata.json); {_ADVICE}"
        )


def file_rows(file: str) -> int:
    """Return the number of rows of a Parquet file, from its footer. Raises `UserError` if it is damaged."""
    try:
        return int(read_footer(file).num_rows)
    except UserError as error:
        raise UserError(f"{error}; {_ADVICE}") from error
