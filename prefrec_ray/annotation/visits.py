"""Numbers of sessions in the segments of pairs, for the choice of pairs that annotators can compare."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import ray

from prefrec_ray.annotation.pairs import fill_segments, pairs_of_users
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.ids import codes, first_rows
from prefrec_ray.runtime.progress import Progress

#: Most sessions of one segment for each session of the other.
RATIO = 2


def comparable_first(visits: np.ndarray) -> np.ndarray:
    """Return an order of pairs with numbers `visits` int64 [P, 2]: pairs within a factor of `RATIO` come first."""
    return np.argsort(visits.max(axis=1) > RATIO * visits.min(axis=1), kind="stable")


def count_visits(dataset: PreparedDataset, pairs: pa.Table, progress: Progress) -> np.ndarray:
    """Return the number of sessions in each segment, int64 [P, 2]; one task per file of sessions."""
    shared = ray.put(pairs)
    return fill_segments(
        np.zeros((len(pairs), 2), np.int64),
        lambda file: _count_of.remote(dataset.uri, file, shared),
        dataset.files("sessions"),
        "count visits: files",
        progress,
    )


@ray.remote(num_cpus=1)
def _count_of(uri: str, file: str, pairs: pa.Table) -> list[tuple[int, np.ndarray, np.ndarray]]:
    table = PreparedDataset.open(uri).read(file, ["user_id", "depth"])
    first = first_rows(codes(table["user_id"]))
    users = table["user_id"].combine_chunks().take(pa.array(first))
    counted = []
    for side in (0, 1):
        pair, user = pairs_of_users(pairs, side, users)
        start, length = (pairs[name].to_numpy()[pair] for name in (f"start_{side}", "length"))
        counted.append((side, pair, touched(table["depth"].to_numpy(), first[user], start, length)))
    return counted


def touched(depth: np.ndarray, row: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the number of sessions with impressions start to start + length - 1 of a user, int64 [n].

    depth [sessions]: impressions per session, user by user; row [n]: the first session of each user.
    """
    ends = np.cumsum(depth)
    before = (ends - depth)[row] + start
    sessions = [np.searchsorted(ends, request, side="right") for request in (before, before + length - 1)]
    return np.asarray(sessions[1] - sessions[0] + 1)
