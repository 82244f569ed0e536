"""Removal of users from a data set on a local disk, in one step.

All rows of the users are removed: impressions, sessions, transitions, preferences with a segment of them, labels of
annotators on these, and dropped rows. Other rows keep their order, and transitions are numbered again. Statistics over
all users stay: the normaliser, learned embeddings and the network of expected feedback.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import storage
from prefrec_ray.dataset.prepared import PEOPLE, PreparedDataset, read_table, write_table
from prefrec_ray.ids import Mentions, ids_from_text, present
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.settings import SPLITS
from prefrec_ray.storage.parquet import read_parquet, write_parquet

_USERS = ("user_id", "user_0", "user_1")
#: Kinds of removed rows, by the first folder of their files.
_KINDS = {
    "requests": "impressions of data sets",
    "sessions": "sessions of data sets",
    "unexamined": "items that users did not examine",
    "transitions": "transitions of data sets",
    "preferences": "preferences of data sets",
    "people": "labels of annotators in data sets",
    "dropped": "dropped rows of data sets",
}
#: Columns that show the rows of users; all columns of other files.
_NEEDED = {"requests": ["user_id"], "unexamined": ["user_id"], "sessions": ["user_id"], "transitions": ["number"]}
_METADATA, _DROPPED = "metadata.json", "dropped.json"


def splits_of(dataset: PreparedDataset, users: Sequence[str]) -> set[str]:
    """Return the splits with impressions of `users`, whose ids are texts."""
    return {
        split
        for split in SPLITS
        if any(_rows_of(read_parquet(file, ["user_id"]), users).any() for file in dataset.files("requests", split))
    }


def users_of(dataset: PreparedDataset, users: Sequence[str]) -> set[str]:
    """Return the `users` with an impression, or in a dropped row."""
    mentions, found = Mentions(users), set()
    for split in SPLITS:
        for file in dataset.files("requests", split):
            found |= present(read_parquet(file, ["user_id"])["user_id"], users)
    for file in dataset.files("dropped"):
        found |= set().union(*(_named(raw, mentions) for raw in read_parquet(file, ["raw"])["raw"].to_pylist()))
    return found


def remove_users(dataset: PreparedDataset, users: Sequence[str], partial: str) -> Counter[str]:
    """Remove `users`, whose ids are texts, and return the numbers of removed rows by kind.

    The caller holds the claim on the data set, whose name for half-written files is `partial`. Files without rows of
    the users are linked, not copied. A kill leaves the old or the new data set. Raises `UserError` for a damaged file.
    """
    removal = _Removal(dataset, users)
    folder, copy = Path(storage.absolute(dataset.uri)), Path(storage.absolute(partial))
    copy.mkdir()
    shutil.copymode(folder, copy)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not removal.write(path, target):
            os.link(path, target)
    if removal.removed:
        storage.exchange(str(folder), str(copy))
        storage.sync(str(folder.parent))
    storage.remove(str(copy))
    return removal.removed


class _Removal:
    """The removal of users from the files of one data set, file by file; `removed` counts rows by kind."""

    def __init__(self, dataset: PreparedDataset, users: Sequence[str]) -> None:
        self._dataset, self._users, self._mentions = dataset, users, Mentions(users)
        self.removed: Counter[str] = Counter()
        self._gone = self._transitions()

    def write(self, path: Path, target: Path) -> bool:
        """Write `target`, the file `path` without rows of the users. Return False if it has none of their rows."""
        parts = path.relative_to(storage.absolute(self._dataset.uri)).parts
        if path.name == _METADATA and len(parts) == 1:
            storage.write_json(str(target), self._metadata())
            return True
        if path.name == PEOPLE:
            storage.write_json(str(target), self._summary(path))
            return True
        if path.name == _DROPPED and len(parts) == 1:
            storage.write_json(str(target), self._report(path))
            return True
        if path.suffix != ".parquet" or parts[0] not in _KINDS:
            return path.name.endswith(".claim")  # of this process
        wide = parts[0] in ("requests", "transitions")
        mask = self._mask(parts[0], path, read_parquet(str(path), _NEEDED.get(parts[0])))
        renumbered = parts[0] == "transitions" and self._gone.any()
        if not (mask.any() or renumbered):
            return False
        self.removed[_KINDS[parts[0]]] += int(mask.sum())
        kept = self._kept(read_table(str(path)), mask)
        if len(kept) or parts[0] not in ("requests", "sessions", "unexamined"):  # files of these have rows
            (write_table if wide else write_parquet)(kept, str(target))
            storage.sync(str(target))
        return True

    def _mask(self, kind: str, path: Path, table: pa.Table) -> np.ndarray:
        """Return a mask of the rows to remove, bool [N]."""
        if kind == "transitions":
            return self._gone[table["number"].to_numpy()]
        if kind == "dropped":
            return np.array([bool(_named(raw, self._mentions)) for raw in table["raw"].to_pylist()], bool)
        if path.stem == "votes":
            return pc.is_in(table["pair_id"], self._pairs(path.parent)).to_numpy()
        return _rows_of(table, self._users)

    def _kept(self, table: pa.Table, mask: np.ndarray) -> pa.Table:
        """Return the other rows; transitions with the numbers that they have without the removed transitions."""
        kept = table.filter(pa.array(~mask))
        if "number" not in kept.column_names:
            return kept
        number = kept["number"].to_numpy()
        earlier = np.cumsum(self._gone)[number]
        place = kept.column_names.index("number")
        return kept.set_column(place, kept.schema.field("number"), pa.array(number - earlier))

    def _transitions(self) -> np.ndarray:
        """Return a mask of the transitions of the users, by their numbers, bool [T]."""
        masks = [np.zeros(0, bool)]
        for file in self._dataset.files("requests", "train"):
            table = read_parquet(file, ["user_id", "step"])
            masks.append(_rows_of(table, self._users)[Pages.from_table(table).transitions()[0]])
        return np.concatenate(masks)

    def _pairs(self, folder: Path) -> pa.Array:
        """Return the ids of the pairs with a segment of the users, among the labels of annotators in `folder`."""
        ids = [pa.array([], pa.int64())]
        for split in ("train", "validation"):
            file = folder / f"{split}.parquet"
            if file.exists():
                table = read_parquet(str(file))
                ids.append(table["pair_id"].filter(pa.array(_rows_of(table, self._users))).combine_chunks())
        return pa.concat_arrays(ids)

    def _summary(self, path: Path) -> dict[str, Any]:
        """Return people.json with the numbers of the remaining pairs, votes and skips."""
        summary = storage.read_json(str(path))
        folder = path.parent / str(summary["version"])
        gone = self._pairs(folder)
        votes = read_parquet(str(folder / "votes.parquet"))
        kept = votes.filter(pc.invert(pc.is_in(votes["pair_id"], gone)))["label"]
        pairs = {}
        for split in summary["pairs"]:
            file = folder / f"{split}.parquet"
            pairs[split] = int((~_rows_of(read_parquet(str(file)), self._users)).sum()) if file.exists() else 0
        return {**summary, "pairs": pairs, "votes": len(kept) - kept.null_count, "skips": kept.null_count}

    def _report(self, path: Path) -> dict[str, Any]:
        """Return dropped.json with the same numbers of rows, and without values from rows of the users."""
        report: dict[str, Any] = storage.read_json(str(path))
        gone: set[tuple[str, int]] = set()
        for file in path.parent.glob("dropped/*.parquet"):
            table = read_parquet(str(file), ["file", "row", "raw"])
            rows = table.filter(pa.array(self._mask("dropped", file, table)))
            gone.update(zip(rows["file"].to_pylist(), rows["row"].to_pylist(), strict=True))
        for reason in report["reasons"]:
            if (reason["file"], reason["row"]) in gone:
                reason["found"] = "found a value of a removed user"
        return report

    def _metadata(self) -> dict[str, Any]:
        """Return metadata.json with the numbers of the remaining users, sessions, impressions and transitions."""
        counts = {split: dict(of_split) for split, of_split in self._dataset.metadata.counts.items()}
        for split, of_split in counts.items():
            for file in self._dataset.files("requests", split):
                table = read_parquet(file, ["user_id", "step"])
                rows = table.filter(pa.array(_rows_of(table, self._users)))
                of_split["users"] -= len(pc.unique(rows["user_id"]))
                of_split["requests"] -= len(rows)
                of_split["transitions"] -= len(Pages.from_table(rows).transitions()[0])
        for file in self._dataset.files("sessions"):
            rows = read_parquet(file, ["user_id", "split"])
            for split in rows.filter(pa.array(_rows_of(rows, self._users)))["split"].to_pylist():
                counts[split]["sessions"] -= 1
        return {**self._dataset.metadata.model_dump(mode="json"), "counts": counts}


def _rows_of(table: pa.Table, users: Sequence[str]) -> np.ndarray:
    """Return a mask of the rows with one of `users` in a column of ids, bool [N]."""
    mask = np.zeros(len(table), bool)
    for name in set(_USERS) & set(table.column_names):
        column = table[name]
        mask |= pc.is_in(column, ids_from_text(users, column.type)).to_numpy()
    return mask


def _named(raw: str, mentions: Mentions) -> set[str]:
    """Return the users whom the dropped row `raw` mentions.

    It is a JSON object, or a JSON text: a line of CSV with too few or too many values. No column is known to be of
    users, and the id may be in a text or nested.
    """
    return set().union(*map(mentions.find, _texts(json.loads(raw))))


def _texts(value: Any) -> Iterator[str]:
    """Yield the values of a dropped row as texts, also nested ones; a whole number such as 1e16 has no fraction."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
    else:
        yield str(int(value) if isinstance(value, float) and value.is_integer() else value)
