"""The pass over the impressions: log weights of NCIS, one row per session, and the items that each subject serves."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.acceleration import keep_freed_memory
from prefrec_ray.dataset import floats, tensor
from prefrec_ray.errors import UserError, unwrapped_errors
from prefrec_ray.evaluation.estimators.ncis import (
    LoggedSessions,
    ScoredSplit,
    request_log_weights,
    session_columns,
    session_log_weights,
)
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, EvaluationWork
from prefrec_ray.evaluation.results.names import CONSTANT, IMITATION, LOGGING_POLICY, RANDOM_ITEMS, shuffled
from prefrec_ray.evaluation.results.records import ItemShare, ServedItems
from prefrec_ray.ids import first_rows
from prefrec_ray.mdp.exposure import recent_kinds
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.storage.parquet import read_footer
from prefrec_ray.users.reading import read_sessions, session_starts

#: Impressions of the split for which served items are computed. The search for the nearest item is slow.
SERVED_REQUESTS = 20_000
#: Approximate number of impressions (of whole users) for NCIS if a policy draws its items. A draw from a large
#: catalogue for every impression would take most of the time of an evaluation.
DRAWN_REQUESTS = 60_000
TOP_ITEMS = 20


@dataclass(frozen=True)
class Tally:
    """Impressions of each served item in one file, and sums of `item_distance` and `action_saturation` over them.

    Logged items have no actions, and therefore no sums.
    """

    items: Counter[Any]
    sums: Mapping[str, float] = field(default_factory=dict)


def score_split(work: EvaluationWork) -> ScoredSplit:
    """Pass over the impressions of the split, file by file. Raises `UserError` if there are none."""
    dataset, split = work.request.dataset, work.request.settings.split
    files = dataset.files("requests", split)
    if not files:
        raise UserError(f"{dataset.uri}: no impressions in the split '{split}'")
    shared, served_rows = [work.stored], -(-SERVED_REQUESTS // len(files))
    # Plain tasks, because Ray Data starts half a second later and pauses between files.
    with unwrapped_errors():
        scores = run_tasks(
            lambda file: _score.remote(file, shared, served_rows), files, "score logged sessions: files", work.progress
        )
    sessions, tallies = zip(*scores, strict=True)
    joined = LoggedSessions.concatenate(sessions) if work.chosen("ncis") else None
    return ScoredSplit(joined, {name: _summary([tally[name] for tally in tallies]) for name in tallies[0]})


@ray.remote(num_cpus=1)
def _score(file: str, shared: list[ray.ObjectRef], served_rows: int) -> tuple[LoggedSessions | None, dict[str, Tally]]:
    keep_freed_memory()
    # The reference travels inside a list: a bare one would be resolved for every task's arguments.
    request: EvaluationRequest = ray.get(shared[0])
    if "ncis" in request.settings.estimators:
        return score_file(file, request, served_rows)
    return None, serve_file(file, request, served_rows)


def serve_file(file: str, request: EvaluationRequest, served_rows: int) -> dict[str, Tally]:
    """Return the items served for `served_rows` impressions of one file."""
    requests = request.dataset.read(file, columns=["user_id", "item_id", "state"])
    rng = _rng(file, request)
    rows = np.sort(rng.permutation(len(requests))[:served_rows])
    sample = requests.take(rows)
    own = _acts(request, tensor(sample["state"]), requests, rows, rng)
    return _tallies(request, own, sample["item_id"].to_numpy())


def score_file(file: str, request: EvaluationRequest, served_rows: int) -> tuple[LoggedSessions, dict[str, Tally]]:
    """Return the sessions of one file (the `scored_share` of its users), and items served for `served_rows`
    impressions."""
    dataset, settings = request.dataset, request.settings
    pins = ["pinned"] if "pinned" in read_footer(file).schema.names else []
    requests = dataset.read(file, columns=["user_id", "session_index", "step", "item_id", "state", "action", *pins])
    sessions = read_sessions(dataset, file, settings.split)
    rng, share = _rng(file, request), scored_share(request)
    if share < 1:
        users = rng.permutation(pc.unique(sessions["user_id"]).to_numpy(zero_copy_only=False))
        drawn = pa.array(users[: math.ceil(share * len(users))], sessions["user_id"].type)
        requests, sessions = (table.filter(pc.is_in(table["user_id"], drawn)) for table in (requests, sessions))
    first = session_starts(requests, sessions, file)
    states, logged = tensor(requests["state"]), tensor(requests["action"])

    own = _acts(request, states, requests, np.arange(len(states)), rng)
    actions = _subject_actions(request, own, rng)
    sigma = settings.ncis.sigma * request.clone.residual_rms
    log_weights = np.column_stack(
        [
            request_log_weights(logged, actions[subject.name], own[IMITATION], sigma, settings.ncis.mode)
            for subject in request.subjects
        ]
    )
    if pins:  # no choice of a policy
        log_weights[requests["pinned"].to_numpy()] = 0.0
    log_rho = session_log_weights(log_weights, first, settings.ncis.aggregate, floats(sessions["depth"]))

    rows = np.sort(rng.permutation(len(states))[:served_rows])
    chosen = {name: actions[rows] for name, actions in own.items()}
    return session_columns(sessions, log_rho), _tallies(request, chosen, requests["item_id"].to_numpy()[rows])


def scored_share(request: EvaluationRequest) -> float:
    """Return the share of a split's users for NCIS: all, unless a policy draws its items and there are many
    impressions."""
    if all(policy.always_nearest for policy in request.policies.values()):
        return 1.0
    counts = request.dataset.metadata.counts.get(request.settings.split, {})
    return min(1.0, DRAWN_REQUESTS / max(1, counts.get("requests", 0)))


def top_items(items: Counter[Any]) -> dict[str, Any]:
    """Return the item fields of `ServedItems`; the order of ties does not depend on the order of files."""
    requests = items.total()
    top = sorted(items.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP_ITEMS]
    shares = tuple(ItemShare(item_id=item, share=times / requests) for item, times in top)
    return {"requests": requests, "distinct_items": len(items), "top_items": shares}


def _acts(
    request: EvaluationRequest, states: np.ndarray, requests: pa.Table, rows: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return each actor's actions in `states`, with one seed per file for all actors.

    The states are those before the impressions `rows` of `requests`, which holds whole histories of users.
    """
    seed = int(rng.integers(2**32))
    starts = first_rows(requests["user_id"].to_numpy(zero_copy_only=False))
    first = starts[np.searchsorted(starts, rows, side="right") - 1]

    def recent(policy: Policy) -> np.ndarray | None:
        if not policy.penalises_repetition:
            return None
        shown = policy.items.rows(requests["item_id"].to_numpy(zero_copy_only=False))
        return recent_kinds(first, rows, shown, policy.items.kinds)

    return {name: policy.act(states, seed, recent(policy)) for name, policy in request.actors.items()}


def _subject_actions(
    request: EvaluationRequest, own: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return actions float32 [N, A] of every subject by name, from the actors' `own` actions.

    Shuffled actions keep a policy's distribution and do not depend on the state. All policies have the same shuffle.
    """
    clone, rows = request.clone, len(own[IMITATION])
    order = rng.permutation(rows)
    embeddings = clone.policy.items.embeddings
    return {
        **own,
        **{shuffled(name): actions[order] for name, actions in own.items()},
        CONSTANT: np.broadcast_to(clone.mean_action, (rows, len(clone.mean_action))),
        RANDOM_ITEMS: embeddings[rng.integers(0, len(embeddings), rows)],
    }


def _tallies(request: EvaluationRequest, own: Mapping[str, np.ndarray], logged: np.ndarray) -> dict[str, Tally]:
    """Return tallies of served items for the actors with their `own` actions, and for the logging policy.

    Impressions are independent: items that the user has seen before are not excluded, unlike in roll-outs. Distances
    are Euclidean, to the nearest item.
    """
    tallies = {}
    for name, policy in request.actors.items():
        places = policy.place(own[name])
        distance, saturation = float(places.distance.sum()), float(places.saturated.mean(axis=1).sum())
        sums = {"item_distance": distance, "action_saturation": saturation}
        tallies[name] = Tally(_count(policy.items.ids[places.row]), sums)
    return {**tallies, LOGGING_POLICY: Tally(_count(logged))}


def _count(item_ids: np.ndarray) -> Counter[Any]:
    ids, counts = np.unique(item_ids, return_counts=True)
    return Counter(dict(zip(ids.tolist(), counts.tolist(), strict=True)))


def _summary(parts: Sequence[Tally]) -> ServedItems:
    items = top_items(sum((part.items for part in parts), Counter()))
    means = {name: sum(part.sums[name] for part in parts) / items["requests"] for name in parts[0].sums}
    return ServedItems(**items, **means)


def _rng(file: str, request: EvaluationRequest) -> np.random.Generator:
    return np.random.default_rng((request.settings.seed, zlib.crc32(file.rsplit("/", 1)[-1].encode())))
