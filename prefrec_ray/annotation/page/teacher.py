"""A store as a teacher: its votes become preferences of the data set, under a name with a digest of the votes."""

from __future__ import annotations

import json
import posixpath
import re
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from prefrec_ray import runtime, storage
from prefrec_ray.annotation.ask import read_pairs
from prefrec_ray.annotation.page.store import FILE, Store
from prefrec_ray.annotation.store import import_votes
from prefrec_ray.annotation.votes import SCHEMA, WORDS
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.runtime.progress import Progress

#: The folder of a store with its questions, as `prefrec pairs` writes them.
QUESTIONS = "pairs"
AGGREGATE = "one-coin"


def is_store(teacher: str) -> bool:
    """Return whether this is the path of a store, and not a teacher of the data set."""
    return storage.exists(storage.join(teacher, FILE))


def with_votes(config: dict[str, Any], dataset: str, progress: Progress) -> dict[str, Any]:
    """Import the votes of stores among the `teachers` of training settings into the data set at the URI `dataset`.

    Returns the settings with the names of the imported votes instead of the stores. A name consists of the name of the
    folder and a digest of the votes, so that the settings of a run identify its votes; votes that are already imported
    are not imported again. Starts Ray. Raises `UserError`: a store without votes, or of another data set.
    """
    stores = {one for one in map(str, config.get("teachers", ())) if is_store(one)}
    if not stores:
        return config
    runtime.start_ray()
    named = {one: _imported(one, dataset, progress) for one in stores}
    return {**config, "teachers": [named.get(str(one), str(one)) for one in config["teachers"]]}


def _imported(folder: str, dataset: str, progress: Progress) -> str:
    votes = _votes(folder)
    digest = blake2b(json.dumps(votes.to_pylist()).encode(), digest_size=4).hexdigest()
    base = re.sub(r"[^A-Za-z0-9_-]", "-", posixpath.basename(storage.absolute(folder).rstrip("/"))).lstrip("_-")
    name = f"{base or 'people'}-{digest}"
    prepared = PreparedDataset.open(dataset)
    if name not in prepared.people():
        pairs = storage.join(folder, QUESTIONS)
        with suppress(FileExistsError):  # another run was quicker, with the same votes
            import_votes(votes, folder, read_pairs(pairs), pairs, prepared, name, AGGREGATE, progress, replace=False)
    return name


def _votes(folder: str) -> pa.Table:
    store = Store(folder)
    try:
        rows = [{"pair_id": pair, "annotator": who, "label": WORDS[label]} for pair, who, label in store.labels()]
    finally:
        store.close()
    if all(row["label"] is None for row in rows):
        raise UserError(f"{folder}: {len(rows)} votes, all of them skips; expected at least one other vote")
    return pa.Table.from_pylist(rows, SCHEMA)
