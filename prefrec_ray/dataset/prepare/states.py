"""Wide stages: the scaled states of each bucket's users, as impressions on disk and as shuffled transitions.

The transitions of all buckets, in their order, are cut into waves of equal size, which bound the memory. Each wave is
shuffled among its own shards. Waves that fit into the object stores of all nodes are computed together, and are on disk
before the next ones start. Buckets are random sets of users, so that a wave is a sample of all users; shards are
numbered in turn over the waves, so that neighbours come from different waves.
The network of expected feedback is fitted meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray import storage
from prefrec_ray.dataset import tensor_array, write_table
from prefrec_ray.dataset.prepare.shuffle import Destinations, waves_at_once, write_shard
from prefrec_ray.dataset.prepare.users import LogUsers, read_bucket
from prefrec_ray.ids import codes, first_rows
from prefrec_ray.mdp.bulk import HistoryRows, raw_states
from prefrec_ray.mdp.excluded import Repeats, measure_repeats
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Moments, Normaliser
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.mdp.state import StateDefinition, UserFeatures, scaled_feedback
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import SPLITS

if TYPE_CHECKING:
    from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback

#: Impressions of training users to which the network of expected feedback is fitted.
FITTED = 200_000
#: Impressions of training users among which repeats are counted.
COUNTED = 1_000_000
#: Size of the number of a transition.
NUMBER_BYTES = 8


@dataclass(frozen=True, eq=False)
class Context:
    """Inputs of the states of all buckets."""

    folder: str
    definition: StateDefinition
    items: ItemTable
    users: pa.Table | None
    has_reward: bool
    state_type: str

    def profile(self, ids: pa.Array) -> np.ndarray:
        """Return the `profile` columns of some users; all unknown for users that are not in the table."""
        features: UserFeatures = len(ids)
        if self.users is not None:
            features = self.users.take(pc.index_in(ids, self.users["user_id"]))
        return self.definition.one_hot(features)


class BucketHistories:
    """Rows of one bucket, of all its users or of one split, with their raw states."""

    def __init__(self, context: Context, bucket: int, split: int | None = None) -> None:
        table = read_bucket(context.folder, bucket)
        if split is not None:
            table = table.filter(pc.equal(table["split"], split))
        self.table, self._context = table, context
        self.starts = first_rows(codes(table["user_id"]))

    @cached_property
    def actions(self) -> np.ndarray:
        """Return embeddings of the items, float32 [N, A]."""
        return self._context.items.embeddings[self.item_rows]

    @cached_property
    def item_rows(self) -> np.ndarray:
        """Return the row of each item in the item table, int64 [N]."""
        return self._context.items.rows(self.table["item_id"].to_numpy(zero_copy_only=False))

    @cached_property
    def feedback(self) -> np.ndarray:
        """Return feedback as in the log, float32 [N, F], in the order of the state definition."""
        columns = [self.table[name].to_numpy() for name in self._context.definition.feedback]
        return np.stack(columns, axis=1) if columns else np.empty((len(self.table), 0), np.float32)

    def raw_states(self) -> np.ndarray:
        """Return raw states, float32 [N, width]."""
        context, table = self._context, self.table
        rows = HistoryRows(
            starts=self.starts,
            timestamp=table["timestamp"].to_numpy(),
            session=table["session"].to_numpy(),
            feedback=self.feedback,
            embeddings=self.actions,
            profile=context.profile(table["user_id"].take(pa.array(self.starts)).combine_chunks()),
            dwell_ms=table["dwell_ms"].to_numpy() if "dwell_ms" in table.column_names else None,
            step=table["step"].to_numpy(),
        )
        return raw_states(context.definition, rows)


def fit_normaliser(context: Context, buckets: list[int], progress: Progress) -> Normaliser:
    """Return the scaling, from the raw states of the training users' impressions."""
    shared = ray.put(context)
    total = Moments.zero(context.definition.width)
    for part in run_tasks(
        lambda bucket: _state_moments.remote(shared, bucket), buckets, "scale states: files", progress
    ):
        total.merge(part)
    return total.normaliser(one_hot=context.definition.groups["profile"])


def write_states(context: Context, normaliser: Normaliser, users: LogUsers, seed: int, progress: Progress) -> None:
    """Write the impressions of all users and the transitions of training users."""
    for name in (*(f"requests/{split}" for split in SPLITS), "transitions"):
        storage.make_folder(storage.join(context.folder, name))
    buckets = np.unique(users.bucket)
    sizes = np.bincount(users.bucket, (users.split == 0) * users.transitions).astype(np.int64)[buckets]
    offsets = np.cumsum(sizes) - sizes
    widths = (context.definition.width, context.definition.action_dim)
    row_bytes = 4 * (2 * widths[0] + widths[1] + context.has_reward) + NUMBER_BYTES
    destinations = Destinations.for_size(int(sizes.sum()), row_bytes, seed)
    shared = ray.put(context)
    state, action = (np.zeros((0, width), np.float32) for width in widths)
    reward = np.zeros(0, np.float32) if context.has_reward else None
    empty = _transitions(context, state, action, state, reward, np.zeros(0, np.int64))
    pieces: dict[int, list[ray.ObjectRef]] = {shard: [] for shard in range(destinations.shards)}

    def submit_bucket(number: int) -> ray.ObjectRef:
        shards = destinations.reached(int(offsets[number]), int(sizes[number]))
        task = _write_requests.options(num_returns=1 + len(shards))
        outputs = task.remote(shared, normaliser, int(buckets[number]), destinations, int(offsets[number]))
        written, *parts = outputs if shards else [outputs]
        for shard, part in zip(shards, parts, strict=True):
            pieces[shard].append(part)
        return written

    def submit_shard(shard: int) -> ray.ObjectRef:
        # From now on only the task refers to the pieces, so that they are freed when it ends.
        return write_shard.remote(context.folder, shard, seed, empty, *pieces.pop(shard))

    first_wave, at_once = destinations.wave(offsets), waves_at_once(ray.cluster_resources())
    for first in range(0, destinations.waves, at_once):
        waves = range(first, min(first + at_once, destinations.waves))
        of_waves = np.flatnonzero(np.isin(first_wave, waves)).tolist()
        shards = [shard for wave in waves for shard in destinations.of_wave(wave)]
        run_tasks(
            submit_bucket, of_waves, "compute states: files", progress, (int((first_wave < first).sum()), len(buckets))
        )
        done = first * destinations.shards_of_wave
        run_tasks(submit_shard, shards, "shuffle transitions: files", progress, (done, destinations.shards))


@ray.remote(num_cpus=1)
def _state_moments(context: Context, bucket: int) -> Moments:
    """Return the moments of the raw states of a bucket's training users."""
    moments = Moments.zero(context.definition.width)
    moments.add(BucketHistories(context, bucket, split=0).raw_states())
    return moments


@ray.remote(num_cpus=1)
def _write_requests(
    context: Context, normaliser: Normaliser, bucket: int, destinations: Destinations, offset: int
) -> list[int | pa.Table]:
    """Write the bucket's impressions, one file per split; return their number, and its transitions for each shard.

    `offset`: the number of transitions in earlier buckets.
    """
    histories = BucketHistories(context, bucket)
    states = normaliser(histories.raw_states())
    table, actions = histories.table, histories.actions
    split = table["split"].to_numpy()
    for code, name in enumerate(SPLITS):
        rows = np.flatnonzero(split == code)
        if len(rows):
            _write(histories, context, states, rows, name, bucket)

    row, following = Pages.from_steps(histories.starts, table["step"].to_numpy(), len(table)).transitions()
    training = split[row] == 0
    row, following = row[training], following[training]
    result: list[int | pa.Table] = [len(table)]
    for positions in destinations.by_shard(offset, len(row)):
        rows, next_states = row[positions], states[following[positions]]
        reward = table["reward"].to_numpy()[rows] if context.has_reward else None
        result.append(_transitions(context, states[rows], actions[rows], next_states, reward, offset + positions))
    return result


def _transitions(
    context: Context,
    states: np.ndarray,
    actions: np.ndarray,
    next_states: np.ndarray,
    reward: np.ndarray | None,
    number: np.ndarray,
) -> pa.Table:
    columns = {
        "obs": tensor_array(states, context.state_type),
        "action": tensor_array(actions),
        "next_obs": tensor_array(next_states, context.state_type),
    }
    return pa.table({**columns, **({} if reward is None else {"reward": reward}), "number": number})


def _write(
    histories: BucketHistories, context: Context, states: np.ndarray, rows: np.ndarray, split: str, bucket: int
) -> None:
    """Write the impressions `rows` of a bucket, all of one split."""
    table = histories.table
    kept = table.take(pa.array(rows))
    columns = {
        "user_id": kept["user_id"],
        "session_index": kept["session"],
        "step": kept["step"],
        "timestamp": kept["timestamp"],
        "item_id": kept["item_id"],
        "state": tensor_array(states[rows], context.state_type),
        "action": tensor_array(histories.actions[rows]),
    }
    if context.definition.feedback:
        columns["feedback"] = tensor_array(histories.feedback[rows])
    for name in ("reward", "propensity", "position", "pinned"):  # `step` is the page
        if name in table.column_names:
            columns[name] = kept[name]
    write_table(pa.table(columns), storage.join(context.folder, "requests", split, f"part-{bucket:05d}.parquet"))


@ray.remote(num_cpus=1)
def feedback_network_of(
    context: Context, normaliser: Normaliser, buckets: list[int], seed: int
) -> ExpectedFeedback | None:
    """Fit the network of expected feedback on the first buckets, with enough impressions; None without feedback."""
    if not context.definition.feedback:
        return None
    parts: list[tuple[np.ndarray, ...]] = []
    requests = 0
    for bucket in buckets:
        histories = BucketHistories(context, bucket, split=0)
        if len(histories.table):
            feedback = scaled_feedback(histories.feedback, context.definition)
            parts.append((normaliser(histories.raw_states()), histories.actions, feedback))
            requests += len(feedback)
        if requests >= FITTED:
            break
    # On demand, because the other tasks of this module need no PyTorch for a small log.
    from prefrec_ray.policy.networks.expected_feedback import fit_answers

    states, actions, feedback = (np.concatenate(column)[:FITTED] for column in zip(*parts, strict=True))
    return fit_answers(states, actions, feedback, context.definition.embedding_parts(), seed)


@ray.remote(num_cpus=1)
def repeats_of(context: Context, buckets: list[int]) -> Repeats:
    """Measure the repeats of training users in the first buckets (random sets of users) with enough impressions."""
    parts: list[tuple[np.ndarray, ...]] = []
    users = requests = 0
    for bucket in buckets:
        histories = BucketHistories(context, bucket, split=0)
        user = users + codes(histories.table["user_id"])
        parts.append((user, histories.table["timestamp"].to_numpy(), histories.item_rows))
        users, requests = users + len(histories.starts), requests + len(user)
        if requests >= COUNTED:
            break
    return measure_repeats(*(np.concatenate(column) for column in zip(*parts, strict=True)))
