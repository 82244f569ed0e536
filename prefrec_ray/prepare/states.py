"""The states of each bucket's users, scaled, as requests on disk and as pieces of transitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray import storage
from prefrec_ray.dataset import tensor_array, write_table
from prefrec_ray.engagement.sessions import first_rows
from prefrec_ray.mdp.bulk import HistoryRows, raw_states
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Moments, Normaliser
from prefrec_ray.mdp.state import StateDefinition, UserFeatures
from prefrec_ray.mdp.transitions import transition_rows
from prefrec_ray.prepare.shuffle import Destinations, bits_of
from prefrec_ray.prepare.users import codes, read_bucket
from prefrec_ray.terms import SPLITS


@dataclass(frozen=True, eq=False)
class Context:
    """What the states of all buckets are made with."""

    folder: str
    definition: StateDefinition
    items: ItemTable
    users: pa.Table | None
    has_reward: bool
    state_type: str

    def profile(self, ids: pa.Array) -> np.ndarray:
        """The `profile` columns of some users; of those not in the table nothing is known."""
        features: UserFeatures = len(ids)
        if self.users is not None:
            features = self.users.take(pc.index_in(ids, self.users["user_id"]))
        return self.definition.one_hot(features)


class Histories:
    """The rows of one bucket, of all its users or of those of one split, with their raw states."""

    def __init__(self, context: Context, bucket: int, split: int | None = None) -> None:
        table = read_bucket(context.folder, bucket)
        if split is not None:
            table = table.filter(pc.equal(table["split"], split))
        self.table, self._context = table, context
        self.starts = first_rows(codes(table["user_id"]))

    @cached_property
    def actions(self) -> np.ndarray:
        """Embeddings of the requests' items, float32 [N, A]."""
        items = self._context.items
        return items.embeddings[items.rows(self.table["item_id"].to_numpy(zero_copy_only=False))]

    @cached_property
    def feedback(self) -> np.ndarray:
        """As in the log, float32 [N, F], in the order of the state definition."""
        columns = [self.table[name].to_numpy() for name in self._context.definition.feedback]
        return np.stack(columns, axis=1) if columns else np.empty((len(self.table), 0), np.float32)

    def raw_states(self) -> np.ndarray:
        """float32 [N, width]."""
        context, table = self._context, self.table
        rows = HistoryRows(
            starts=self.starts,
            timestamp=table["timestamp"].to_numpy(),
            session=table["session"].to_numpy(),
            feedback=self.feedback,
            embeddings=self.actions,
            profile=context.profile(table["user_id"].take(pa.array(self.starts)).combine_chunks()),
            dwell_ms=table["dwell_ms"].to_numpy() if "dwell_ms" in table.column_names else None,
        )
        return raw_states(context.definition, rows)


@ray.remote(num_cpus=1)
def state_moments(context: Context, bucket: int) -> Moments:
    """Moments of the raw states of a bucket's training users."""
    moments = Moments.zero(context.definition.width)
    moments.add(Histories(context, bucket, split=0).raw_states())
    return moments


@ray.remote(num_cpus=1)
def write_requests(
    context: Context, normaliser: Normaliser, bucket: int, destinations: Destinations, offset: int
) -> list[int | np.ndarray]:
    """Writes the bucket's requests, a file a split that it has users of.

    Returns their number, and for each shard the transitions that go there: float32 [n, 2 width + A (+ 1) + 2], of obs,
    action, next_obs (, reward) and the transition's number as bits.
    `offset` is the number of transitions in the buckets before.
    """
    histories = Histories(context, bucket)
    states = normaliser(histories.raw_states())
    table, actions, feedback = histories.table, histories.actions, histories.feedback
    step = np.arange(len(table)) - np.repeat(histories.starts, np.diff(np.append(histories.starts, len(table))))
    split = table["split"].to_numpy()
    for code, name in enumerate(SPLITS):
        rows = np.flatnonzero(split == code)
        if len(rows):
            _write(context, table, states, actions, feedback, step, rows, name, bucket)

    first = transition_rows(histories.starts, len(table))
    first = first[split[first] == 0]
    reward = table["reward"].to_numpy() if context.has_reward else None
    result: list[int | np.ndarray] = [len(table)]
    for positions in destinations.of(offset, len(first)):
        rows = first[positions]
        columns = [states[rows], actions[rows], states[rows + 1]]
        if reward is not None:
            columns.append(reward[rows, None])
        columns.append(bits_of(offset + positions))
        result.append(np.concatenate(columns, axis=1))
    return result


def _write(
    context: Context,
    table: pa.Table,
    states: np.ndarray,
    actions: np.ndarray,
    feedback: np.ndarray,
    step: np.ndarray,
    rows: np.ndarray,
    split: str,
    bucket: int,
) -> None:
    kept = table.take(pa.array(rows))
    columns = {
        "user_id": kept["user_id"],
        "session_index": kept["session"],
        "step": step[rows],
        "timestamp": kept["timestamp"],
        "item_id": kept["item_id"],
        "state": tensor_array(states[rows], context.state_type),
        "action": tensor_array(actions[rows]),
    }
    if feedback.shape[1]:
        columns["feedback"] = tensor_array(feedback[rows])
    if context.has_reward:
        columns["reward"] = kept["reward"]
    write_table(pa.table(columns), storage.join(context.folder, "requests", split, f"part-{bucket:05d}.parquet"))
