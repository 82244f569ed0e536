"""Numbers of sessions in the segments of pairs, for the choice of pairs that annotators can compare."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.ids import codes, first_rows
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks

#: Most sessions of one segment for each session of the other.
RATIO = 2


def comparable_first(visits: np.ndarray) -> np.ndarray:
    """Return an order of pairs with numbers `visits` int64 [P, 2]: pairs within a factor of `RATIO` come first."""
    return np.argsort(visits.max(axis=1) > RATIO * visits.min(axis=1), kind="stable")


def count_visits(dataset: PreparedDataset, pairs: pa.Table, progress: Progress) -> np.ndarray:
    """Return the number of sessions in each segment, int64 [P, 2]; one task per file of sessions."""
    shared, visits = ray.put(pairs), np.zeros((len(pairs), 2), np.int64)
    files = dataset.files("sessions")
    for part in run_tasks(
        lambda file: _count_of.remote(dataset.uri, file, shared), files, "count visits: files", progress
    ):
        for side, pair, count in part:
            visits[pair, side] = count
    return visits


@ray.remote(num_cpus=1)
def _count_of(uri: str, file: str, pairs: pa.Table) -> list[tuple[int, np.ndarray, np.ndarray]]:
    table = PreparedDataset.open(uri).read(file, ["user_id", "depth"])
    first = first_rows(codes(table["user_id"]))
    users = table["user_id"].combine_chunks().take(pa.array(first))
    counted = []
    for side in (0, 1):
        place = pc.index_in(pairs[f"user_{side}"].combine_chunks(), users)
        rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
        start = pairs[f"start_{side}"].to_numpy()[rows]
        row = first[place.drop_null().to_numpy().astype(np.int64)]
        counted.append((side, rows, touched(table["depth"].to_numpy(), row, start, pairs["length"].to_numpy()[rows])))
    return counted


def touched(depth: np.ndarray, row: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the number of sessions with impressions start to start + length - 1 of a user, int64 [n].

    depth [sessions]: impressions per session, user by user; row [n]: the first session of each user.
    """
    ends = np.cumsum(depth)
    before = (ends - depth)[row] + start
    sessions = [np.searchsorted(ends, request, side="right") for request in (before, before + length - 1)]
    return np.asarray(sessions[1] - sessions[0] + 1)
