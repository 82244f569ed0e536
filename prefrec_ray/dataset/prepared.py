"""Prepared data set, opened by its metadata and read file by file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.dataset.metadata import SCHEMA_VERSION, Metadata
from prefrec_ray.dataset.tables import read_table
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.settings import Split, Task, parse

if TYPE_CHECKING:
    import numpy as np
    import ray.data
    import torch

    from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback


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
        value = storage.read_json(path)
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{path}: found schema version {version}; expected {SCHEMA_VERSION}: make it again by `prefrec prepare`"
            )
        return cls(str(uri), parse(Metadata, value, path))

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
        """Return the columns of a folder or file as NumPy arrays [n, ...], read without Ray (views.py).

        `parts`: "transitions", or "requests" and a split, or "preferences", a task and "train.parquet". Raises
        `UserError` if no file exists.
        """
        from prefrec_ray.dataset.views import arrays

        return arrays(*self._files_of(*parts), columns)

    def tensors(self, *parts: str, columns: list[str] | None = None) -> dict[str, torch.Tensor]:
        """Return the columns of `arrays` as torch tensors, without columns of text."""
        import torch

        held = self.arrays(*parts, columns=columns)
        return {name: torch.from_numpy(array) for name, array in held.items() if array.dtype.kind in "biuf"}

    def transitions(self, columns: list[str] | None = None) -> ray.data.Dataset:
        """Return shuffled transitions: obs [n, S], action [n, A], next_obs [n, S], reward, number (views.py)."""
        return self._view("transitions", columns=columns)

    def requests(self, split: Split, columns: list[str] | None = None) -> ray.data.Dataset:
        """Return the impressions of a split by user and time: state [n, S], action [n, A], item_id and others."""
        return self._view("requests", split, columns=columns)

    def preferences(self, task: Task, split: Literal["train", "validation"] = "train") -> ray.data.Dataset:
        """Return pairs of segments and their labels by scripted teachers."""
        return self._view("preferences", task, f"{split}.parquet")

    def _view(self, *parts: str, columns: list[str] | None = None) -> ray.data.Dataset:
        # Ray Data takes seconds to import, and many callers do not need it.
        from prefrec_ray.dataset.views import view

        return view(*self._files_of(*parts), columns)

    def _files_of(self, *parts: str) -> tuple[list[str], str]:
        """Return the files of a folder, or one file, and their location."""
        where = self.path(*parts)
        if where.endswith(".parquet"):
            return [where] if storage.exists(where) else [], where
        return self.files(*parts), where

    def people(self) -> list[str]:
        """Return the names of the annotators, below `people/` (annotation/store.py)."""
        folders = storage.list_folders(self.path("people"))
        return [f.rsplit("/", 1)[-1] for f in folders if storage.exists(storage.join(f, "people.json"))]

    def people_path(self, name: str, part: str) -> str:
        """Return the file with the votes of the annotators `name`; `part` is train, validation or votes."""
        about = storage.read_json(self.path("people", name, "people.json"))
        version = [str(about["version"])] if "version" in about else []  # imports of earlier versions have no version
        return self.path("people", name, *version, f"{part}.parquet")

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

    @cached_property
    def state(self) -> StateDefinition:
        """Return the columns of a state."""
        return StateDefinition.from_dict(self.metadata.state, self.path("metadata.json"))

    @cached_property
    def normaliser(self) -> Normaliser:
        """Return the scaling of states."""
        return Normaliser.from_dict(self.metadata.normaliser, self.path("metadata.json"))
