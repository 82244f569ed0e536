"""Whole histories of a sample of users in memory: the data of fitted-Q evaluation."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.logged.sessions import read_sessions, session_columns, session_rows
from prefrec_ray.ids import run_lengths
from prefrec_ray.mdp.items import ItemTable

#: Approximate number of impressions in memory: 200 MB for states of 250 numbers.
ROWS = 200_000


@dataclass(frozen=True)
class Trajectories:
    """Impressions [N] by user and in time order, and their sessions [M]."""

    state: np.ndarray  # float32 [N, S]
    action: np.ndarray  # float32 [N, A], as logged
    first: np.ndarray  # int64 [M]: the first impression of each session
    user: np.ndarray  # int64 [M], ascending: the session's user, 0 for the first
    depth_level: np.ndarray  # float64 [M], NaN if null
    frequency_level: np.ndarray  # float64 [M], NaN if null
    row: np.ndarray  # int64 [N], row of each item in the item table
    propensity: np.ndarray  # float64 [N], of the logging policy, NaN if unknown

    @property
    def session(self) -> np.ndarray:
        """Return the session of each impression, int64 [N]."""
        return np.repeat(np.arange(len(self.first)), run_lengths(self.first, len(self.state)))


@dataclass(frozen=True)
class Steps:
    """The impressions [n] of sessions with a level and a following session; row i is followed by row i + 1.

    A user's last session is excluded, because the state after its last impression is not known.
    """

    row: np.ndarray  # int64 [n], ascending
    ends: np.ndarray  # bool [n]: the session ends with this impression
    reward: np.ndarray  # float64 [n]: the session's level at its end, else 0
    user: np.ndarray  # int64 [n]: 0 for the first remaining user
    start: np.ndarray  # int64 [m]: first impressions of the sessions
    start_user: np.ndarray  # int64 [m]
    users_left_out: int

    @property
    def users(self) -> int:
        """Return the number of remaining users."""
        return int(self.start_user[-1]) + 1

    def redrawn(self, rng: np.random.Generator) -> np.ndarray:
        """Return the steps (int64) of a bootstrap sample of the users."""
        times = np.bincount(rng.integers(0, self.users, self.users), minlength=self.users)
        return np.repeat(np.arange(len(self.row)), times[self.user])


def steps(data: Trajectories, level: np.ndarray) -> Steps:
    """Return the steps for levels [M] of a task (NaN: null). Raises `UserError` if no session remains."""
    followed = np.append(data.user[1:] == data.user[:-1], False)
    kept = followed & np.isfinite(level)
    if not kept.any():
        raise UserError("evaluation: no session has a level and a following session; expected longer histories")
    users, user = np.unique(data.user[kept], return_inverse=True)
    code = np.zeros(len(level), dtype=np.int64)
    code[kept] = user
    session = data.session
    row = np.flatnonzero(kept[session])
    ends = session[row + 1] != session[row]
    return Steps(
        row=row,
        ends=ends,
        reward=np.where(ends, level[session[row]], 0.0),
        user=code[session[row]],
        start=data.first[kept],
        start_user=user,
        users_left_out=int(data.user[-1]) + 1 - len(users),
    )


@ray.remote(num_cpus=1)
def read_trajectories(uri: str, split: str, seed: int, rows: int = ROWS) -> Trajectories:
    """Run `trajectories_of` in a task."""
    return trajectories_of(PreparedDataset.open(uri), split, seed, rows)


def trajectories_of(dataset: PreparedDataset, split: str, seed: int, rows: int = ROWS) -> Trajectories:
    """Read all users of a split, or a random sample with about `rows` impressions.

    Raises `UserError` if the split has no impressions.
    """
    share, items = rows / max(1, dataset.metadata.counts.get(split, {}).get("requests", 0)), dataset.items()
    parts = [_read(dataset, items, file, split, share, seed) for file in dataset.files("requests", split)]
    parts = [part for part in parts if len(part.first)]
    if not parts:
        raise UserError(f"{dataset.uri}: no impressions in the split '{split}'")
    begin = np.cumsum([0, *(len(part.state) for part in parts)])
    users = np.cumsum([0, *(part.user[-1] + 1 for part in parts)])
    return Trajectories(
        state=np.concatenate([part.state for part in parts]),
        action=np.concatenate([part.action for part in parts]),
        first=np.concatenate([part.first + start for part, start in zip(parts, begin, strict=False)]),
        user=np.concatenate([part.user + start for part, start in zip(parts, users, strict=False)]),
        depth_level=np.concatenate([part.depth_level for part in parts]),
        frequency_level=np.concatenate([part.frequency_level for part in parts]),
        row=np.concatenate([part.row for part in parts]),
        propensity=np.concatenate([part.propensity for part in parts]),
    )


def _read(dataset: PreparedDataset, items: ItemTable, file: str, split: str, share: float, seed: int) -> Trajectories:
    columns = ["user_id", "session_index", "step", "item_id", "state", "action"]
    known = dataset.metadata.has_propensity
    requests = dataset.read(file, [*columns, *(["propensity"] if known else [])])
    sessions = read_sessions(dataset, file, split)
    order, first = session_rows(requests, sessions, file)
    by_session = session_columns(sessions, np.zeros((len(first), 0)))
    rng = np.random.default_rng((seed, zlib.crc32(file.rsplit("/", 1)[-1].encode())))
    drawn = (rng.random(by_session.user.max(initial=-1) + 1) < share)[by_session.user]
    length = run_lengths(first, len(order))
    propensity = np.full(len(order), np.nan)
    if known:
        propensity = pc.cast(requests["propensity"], pa.float64()).fill_null(np.nan).to_numpy()
    rows = order[np.repeat(drawn, length)]
    return Trajectories(
        state=tensor(requests["state"])[rows],
        action=tensor(requests["action"])[rows],
        first=np.cumsum(length[drawn]) - length[drawn],
        user=np.unique(by_session.user[drawn], return_inverse=True)[1],
        depth_level=by_session.depth_level[drawn],
        frequency_level=by_session.frequency_level[drawn],
        row=items.rows(requests["item_id"].take(pa.array(rows)).to_numpy(zero_copy_only=False)),
        propensity=propensity[rows],
    )
