"""Prepared data set: its metadata and tables, the check that it is complete, and access file by file."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.engagement import SessionTable
from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes
from prefrec_ray.mdp.excluded import Repeats, rest_ms
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.settings import Settings, parse
from prefrec_ray.storage.parquet import read_footer, read_parquet, write_parquet

if TYPE_CHECKING:
    import ray.data
    import torch

    from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback

SCHEMA_VERSION = 1
#: The file about the labels of annotators (annotation/labels.py).
PEOPLE = "people.json"
#: Footers are small, so that most of the time is spent waiting for storage.
_THREADS = 16
_ADVICE = "make the data set again by `prefrec prepare`"


def read_table(file: str, columns: list[str] | None = None) -> pa.Table:
    """Return a file as a table. Raises `UserError` if it is missing or damaged, or has a number that is not finite."""
    table = read_parquet(file, columns)
    for name in table.column_names:
        if pa.types.is_fixed_size_list(table.schema.field(name).type):
            bad = ~np.isfinite(stored(table[name])).all(axis=1)
            if bad.any():
                where = f"{file}: column '{name}', row {int(bad.argmax()) + 1}"
                raise UserError(f"{where}: found a number that is not finite; expected a finite one")
    return table


def write_table(table: pa.Table, uri: str) -> None:
    """Write an uncompressed Parquet file, since tensors gain nothing from dictionaries or statistics."""
    write_parquet(table, uri, compression="none", use_dictionary=False, write_statistics=False)


def tensor_array(values: np.ndarray, kind: str = "float32") -> pa.FixedSizeListArray:
    """Return [n, d] as a column of `kind`, without nulls, which makes Parquet several times faster to read."""
    flat = pa.array(np.ascontiguousarray(values, kind).ravel())
    return pa.FixedSizeListArray.from_arrays(
        flat, type=pa.list_(pa.field("element", flat.type, nullable=False), values.shape[1])
    )


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as float64 [n], with NaN for null."""
    return column.cast(pa.float64()).fill_null(np.nan).to_numpy()


def tensor(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of fixed_size_list as float32 [n, d]; a view if it is stored as float32 in one chunk."""
    return stored(column).astype(np.float32, copy=False)


def stored(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of fixed_size_list in its stored type (float32 or float16), [n, d]; a view of a single chunk."""
    if isinstance(column, pa.ChunkedArray):
        # A single chunk is used directly, since `combine_chunks` would copy it.
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


class Metadata(Settings):
    """metadata.json.

    `counts`: users, sessions, impressions and transitions, by split. `world`: settings of the simulator. `dropped`:
    rows of the log that are not impressions, by reason. `answers`: layer sizes of the network of expected feedback in
    answers.npz; None if the log has no feedback. `repeats`: of training users; None if an earlier version prepared it.
    """

    schema_version: int
    counts: dict[str, dict[str, int]]
    state_dim: int
    action_dim: int
    action_low: float
    action_high: float
    state: StateDefinition
    normaliser: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    tasks: list[str]
    teachers: list[str]
    mixture_weight: float
    has_reward: bool = False
    has_propensity: bool = False
    given_sessions: bool = False
    world: dict[str, Any] | None = None
    dropped: dict[str, int] = Field(default_factory=dict)
    answers: list[int] | None = None
    repeats: Repeats | None = None

    @property
    def rest_ms(self) -> float:
        """Return the time after an impression in which the log does not repeat the item, ms; infinite if unknown."""
        return math.inf if self.repeats is None else rest_ms(self.repeats.rest_days)


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared data set; open it by `PreparedDataset.open`."""

    uri: str
    metadata: Metadata

    @classmethod
    def open(cls, uri: str) -> PreparedDataset:
        """Read the metadata. Raises `UserError` if `uri` is not a data set, or has another schema version."""
        path = storage.join(uri, "metadata.json")
        if not storage.exists(path):
            raise UserError(f"{uri}: not a prepared data set (no metadata.json); make one by `prefrec prepare`")
        content = storage.read_versioned(path, SCHEMA_VERSION, ": make it again by `prefrec prepare`")
        return cls(str(uri), parse(Metadata, content, path))

    def path(self, *parts: str) -> str:
        """Return the URI of a file or folder of the data set."""
        return storage.join(self.uri, *parts)

    def files(self, *parts: str) -> list[str]:
        """Return the URIs of the Parquet files in a folder of the data set, in order."""
        return storage.list_files(self.path(*parts), ".parquet")

    def read(self, file: str, columns: list[str] | None = None) -> pa.Table:
        """Return the result of `read_table`."""
        return read_table(file, columns)

    def arrays(self, *parts: str, columns: list[str] | None = None) -> dict[str, np.ndarray]:
        """Return the columns of a folder or file as NumPy arrays, read without Ray: float32 [n, d], others [n].

        `parts`: "transitions", or "requests" and a split, or "preferences", a task and "train.parquet". Raises
        `UserError` if no file exists.
        """
        return _arrays(self._files_of(*parts), columns)

    def tensors(self, *parts: str, columns: list[str] | None = None) -> dict[str, torch.Tensor]:
        """Return the columns of `arrays` as torch tensors, without columns of text."""
        import torch

        arrays = self.arrays(*parts, columns=columns)
        return {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.kind in "biuf"}

    def ray_data(self, *parts: str, columns: list[str] | None = None) -> ray.data.Dataset:
        """Return the columns of `arrays` as a Ray data set, one block per file."""
        import ray.data  # on demand: it takes seconds, and many callers do not need it

        files = self._files_of(*parts)
        return ray.data.from_items(files, override_num_blocks=len(files)).map_batches(
            lambda batch: _arrays(batch["item"].tolist(), columns), batch_size=None
        )

    def sessions(self) -> SessionTable:
        """Return the sessions of all splits, read without Ray; `user` counts from 0, in the order of the files."""
        columns = ["user_id", "session_index", "start", "exit", "depth", "revisit_ms"]
        rows = pa.concat_tables([self.read(file, columns) for file in self.files("sessions")])
        return SessionTable(
            user=codes(rows["user_id"]),
            session_index=rows["session_index"].to_numpy(),
            start=rows["start"].to_numpy(),
            exit=rows["exit"].to_numpy(),
            depth=rows["depth"].to_numpy(),
            revisit_ms=floats(rows["revisit_ms"]),
            first_row=np.cumsum(rows["depth"].to_numpy()) - rows["depth"].to_numpy(),
        )

    def _files_of(self, *parts: str) -> list[str]:
        """Return the files of a folder, or one file. Raises `UserError` if no file exists."""
        where = self.path(*parts)
        one = [where] if storage.exists(where) else []
        files = one if where.endswith(".parquet") else self.files(*parts)
        if not files:
            raise UserError(f"{where}: found no files; expected the files of a prepared data set")
        return files

    def people(self) -> list[str]:
        """Return the names of the annotators, below `people/` (annotation/labels.py)."""
        folders = storage.list_folders(self.path("people"))
        return [f.rsplit("/", 1)[-1] for f in folders if storage.exists(storage.join(f, PEOPLE))]

    def people_path(self, name: str, part: str) -> str:
        """Return the file with the votes of the annotators `name`; `part` is train, validation or votes."""
        version = storage.read_json(self.path("people", name, PEOPLE))["version"]
        return self.path("people", name, str(version), f"{part}.parquet")

    def items(self) -> ItemTable:
        """Return the items and their embeddings."""
        return ItemTable.load(self.path("items.parquet"))

    def answers(self) -> ExpectedFeedback | None:
        """Return the network of expected feedback, or None if `prepare` fitted none."""
        if self.metadata.answers is None:
            return None
        # On demand: most callers that open a data set do not need torch.
        from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback

        parts, width = self.state.embedding_parts(), self.state.action_dim
        return ExpectedFeedback.load(self.path("answers.npz"), self.metadata.answers, parts, width)

    @property
    def state(self) -> StateDefinition:
        """Return the columns of a state."""
        return self.metadata.state

    @cached_property
    def normaliser(self) -> Normaliser:
        """Return the scaling of states."""
        return Normaliser.from_dict(self.metadata.normaliser, self.path("metadata.json"))


def _arrays(files: list[str], columns: list[str] | None) -> dict[str, np.ndarray]:
    """Return the columns of all `files`, in their order, as writable arrays, which torch requires."""
    table = pa.concat_tables([read_table(file, columns) for file in files])
    arrays = {}
    for name in table.column_names:
        column = table[name]
        is_tensor = pa.types.is_fixed_size_list(column.type)
        array = tensor(column) if is_tensor else column.to_numpy(zero_copy_only=False)
        arrays[name] = np.require(array, requirements="W")
    return arrays


def check_complete(dataset: PreparedDataset) -> None:
    """Compare the rows of all files, by their footers, with the metadata. Raises `UserError` if they differ."""
    about, metadata = dataset.path("metadata.json"), dataset.metadata
    widths = {dataset.state.width, len(dataset.normaliser.mean), len(dataset.normaliser.std), metadata.state_dim}
    if len(widths) > 1:
        raise UserError(
            f"{about}: found state_dim {metadata.state_dim}; expected the width of state and normaliser; {_ADVICE}"
        )
    expected: dict[tuple[str, ...], int] = {}
    try:
        for split, of_split in metadata.counts.items():
            expected["requests", split] = of_split["requests"]
        if metadata.counts:
            expected["sessions",] = sum(of_split["sessions"] for of_split in metadata.counts.values())
            expected["transitions",] = metadata.counts["train"]["transitions"]
    except KeyError as error:
        raise UserError(f"{about}: counts: {error} is missing; {_ADVICE}") from error
    for folder, rows in expected.items():
        files = dataset.files(*folder)
        with ThreadPoolExecutor(_THREADS) as pool:
            found = sum(pool.map(file_rows, files))
        if found != rows:
            raise UserError(
                f"{dataset.path(*folder)}: found {found:,} rows in {len(files)} files; expected {rows:,}"
                f" (metadata.json); {_ADVICE}"
            )
    for name in ("items.parquet", *(["answers.npz"] if metadata.answers else [])):
        if not storage.exists(dataset.path(name)):
            raise UserError(f"{dataset.path(name)}: no such file in the data set; {_ADVICE}")


def file_rows(file: str) -> int:
    """Return the number of rows of a Parquet file, from its footer. Raises `UserError` if it is damaged."""
    try:
        return int(read_footer(file).num_rows)
    except UserError as error:
        raise UserError(f"{error}; {_ADVICE}") from error
