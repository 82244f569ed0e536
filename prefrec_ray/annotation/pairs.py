"""Pairs of segments for annotators, and their ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream
from prefrec_ray.preferences.segments import DRAWS
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import PAIRINGS

#: Columns that identify a pair; with `pair_id` and `split` the columns of a table of pairs.
IDENTITY = ("user_0", "start_0", "user_1", "start_1", "length")

#: The splits with users in questions.
SPLITS = ("train", "validation")
#: Draws at a time for every pair, because repeated pairs count once.
_DRAWS = 2


@dataclass(frozen=True, eq=False)
class SplitUsers:
    """Users of one split, by id, and their numbers of impressions."""

    ids: pa.Array  # int64 or string [U], ascending
    requests: np.ndarray  # int64 [U]

    def has(self, user: pa.Array, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return whether each segment lies inside its user's history with an impression after it, bool [n]."""
        place = pc.index_in(user.cast(self.ids.type), self.ids)
        requests = self.requests[place.fill_null(0).to_numpy(zero_copy_only=False)]
        known = place.is_valid().to_numpy(zero_copy_only=False)
        return known & (start >= 0) & (start + length < requests)


def histories(dataset: PreparedDataset, progress: Progress) -> dict[str, SplitUsers]:
    """Return the users of each split of `SPLITS`, from the sessions; one task per file."""
    files = dataset.files("sessions")
    parts = run_tasks(
        lambda file: _requests_of_users.remote(dataset.uri, file), files, "count impressions of users: files", progress
    )
    table = pa.concat_tables(parts).sort_by("user_id")
    by_split = {}
    for split in SPLITS:
        users = table.filter(pc.equal(table["split"], split))
        by_split[split] = SplitUsers(users["user_id"].combine_chunks(), users["requests"].to_numpy())
    return by_split


@ray.remote(num_cpus=1)
def _requests_of_users(uri: str, file: str) -> pa.Table:
    table = PreparedDataset.open(uri).read(file, columns=["user_id", "depth", "split"])
    return table.group_by(["user_id", "split"]).aggregate([("depth", "sum")]).rename_columns({"depth_sum": "requests"})


def draw_pairs(
    users: SplitUsers, split: str, pairing: str, length: int, count: int, seed: int, pool: int = 1
) -> pa.Table:
    """Return `count` different pairs of segments of `length` impressions: pair_id, split and `IDENTITY`.

    With a `pool`, up to `pool` times `count` pairs. Users with more than twice `length` impressions are compared.
    Raises `UserError` if there are fewer than two such users, or fewer than `count` pairs.
    """
    eligible = np.flatnonzero(users.requests > 2 * length)
    if len(eligible) < 2:
        raise UserError(
            f"pairs: {len(eligible)} of {len(users.requests)} {split} users have more than {2 * length} impressions; "
            "expected at least 2: take a smaller length"
        )
    rng = np.random.default_rng((seed, Stream.QUESTIONS, SPLITS.index(split), list(PAIRINGS).index(pairing)))
    drawn = DRAWS[pairing](rng, users.requests[eligible], length, _DRAWS * count * pool)
    user, start = eligible[drawn.user], drawn.start
    _, first = np.unique(np.concatenate([user, start], axis=1), axis=0, return_index=True)
    if len(first) < count:
        raise UserError(
            f"pairs: found {len(first)} different {split} pairs, expected {count}: ask for fewer, or shorter ones"
        )
    rows = np.sort(first)[: count * pool]
    columns: dict[str, Any] = {}
    for side in (0, 1):
        columns[f"user_{side}"] = users.ids.take(pa.array(user[rows, side]))
        columns[f"start_{side}"] = pa.array(start[rows, side])
    columns["length"] = pa.array(np.full(len(rows), length))
    return pa.table({"pair_id": pair_ids(pa.table(columns)), "split": pa.array([split] * len(rows)), **columns})


def fill_segments(
    values: np.ndarray, submit: Callable[[str], Any], files: Sequence[str], stage: str, progress: Progress
) -> np.ndarray:
    """Return `values` [P, 2, ...], one for each segment of P pairs, set from the results of one task per file.

    `submit(file)` starts a task and returns its reference. The task returns (side, numbers of pairs [n], values
    [n, ...]) for each side of the pairs whose user is in the file.
    """
    for part in run_tasks(submit, files, stage, progress):
        for side, pair, value in part:
            values[pair, side] = value
    return values


def pairs_of_users(pairs: pa.Table, side: int, users: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the pairs whose user on `side` is in `users`, and their rows in `users`, int64 [n] each."""
    place = pc.index_in(pairs[f"user_{side}"].combine_chunks(), users)
    pair = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
    return pair, place.drop_null().to_numpy().astype(np.int64)


def pair_ids(pairs: pa.Table) -> pa.Array:
    """Return the `pair_id` of each pair, int64."""
    return pa.array([pair_id(row) for row in pairs.to_pylist()], pa.int64())


def pair_id(pair: Mapping[str, Any]) -> int:
    """Return the id of a pair, a hash of its `IDENTITY`: the same pair has the same id everywhere.

    It has 48 bits, because spreadsheets and JavaScript round longer numbers.
    """
    text = json.dumps([pair[name] for name in IDENTITY], ensure_ascii=False)
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=6).digest(), "big")
