"""The pass over the impressions: one Ray task per file, batched inference, and one row per session for the driver."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.dataset import tensor
from prefrec_ray.errors import UserError, unwrapped_errors
from prefrec_ray.evaluation.estimators.ncis import request_log_weights, session_log_weights
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.logged.sessions import LoggedSessions, read_sessions, session_columns, session_rows
from prefrec_ray.evaluation.results.names import IMITATION, LOGGING_POLICY
from prefrec_ray.evaluation.results.served import Tally, count, tally_policy
from prefrec_ray.evaluation.subjects.subjects import subject_actions
from prefrec_ray.memory import keep_freed_memory
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks

#: Impressions of the split for which served items are computed. The search for the nearest item is slow.
SERVED_REQUESTS = 20_000
#: Approximate number of impressions (of whole users) for NCIS if a policy draws its items. A draw from a large
#: catalogue for every impression would take most of the time of an evaluation.
DRAWN_REQUESTS = 60_000


def score_split(request: EvaluationRequest, progress: Progress) -> tuple[LoggedSessions | None, dict[str, list[Tally]]]:
    """Return all sessions of the split with the log weights of `request.subjects`, and served items.

    Sessions are None without the estimator `ncis`. Served items are tallies per file, by name, for policies, behavior
    cloning and the logging policy. `progress` counts files. Raises `UserError` if the split has no impressions.
    """
    dataset, split = request.dataset, request.settings.split
    files = dataset.files("requests", split)
    if not files:
        raise UserError(f"{dataset.uri}: no impressions in the split '{split}'")
    shared, served_rows = [ray.put(request)], -(-SERVED_REQUESTS // len(files))
    # Plain tasks, because Ray Data starts half a second later and pauses between files.
    with unwrapped_errors():
        scores = run_tasks(
            lambda file: _score.remote(file, shared, served_rows), files, "score logged sessions: files", progress
        )
    parts = [sessions for sessions, _ in scores if sessions is not None]
    served: dict[str, list[Tally]] = {}
    for _, tallies in scores:
        for name, tally in tallies.items():
            served.setdefault(name, []).append(tally)
    return LoggedSessions.concatenate(parts) if parts else None, served


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
    requests = request.dataset.read(file, columns=["item_id", "state"])
    rng = _rng(file, request)
    sample = requests.take(np.sort(rng.permutation(len(requests))[:served_rows]))
    own = _acts(request, tensor(sample["state"]), rng)
    return _tallies(request, own, sample["item_id"].to_numpy())


def score_file(file: str, request: EvaluationRequest, served_rows: int) -> tuple[LoggedSessions, dict[str, Tally]]:
    """Return the sessions of one file (the `scored_share` of its users), and items served for `served_rows`
    impressions."""
    dataset, settings = request.dataset, request.settings
    requests = dataset.read(file, columns=["user_id", "session_index", "step", "item_id", "state", "action"])
    sessions = read_sessions(dataset, file, settings.split)
    rng, share = _rng(file, request), scored_share(request)
    if share < 1:
        users = rng.permutation(pc.unique(sessions["user_id"]).to_numpy(zero_copy_only=False))
        drawn = pa.array(users[: math.ceil(share * len(users))], sessions["user_id"].type)
        requests, sessions = (table.filter(pc.is_in(table["user_id"], drawn)) for table in (requests, sessions))
    order, first = session_rows(requests, sessions, file)
    states, logged = tensor(requests["state"]), tensor(requests["action"])

    own = _acts(request, states, rng)
    actions = subject_actions(own, request.clone, rng)
    sigma = settings.ncis.sigma * request.clone.residual_rms
    log_weights = np.column_stack(
        [
            request_log_weights(logged, actions[subject.name], own[IMITATION], sigma, settings.ncis.mode)
            for subject in request.subjects
        ]
    )
    log_rho = session_log_weights(log_weights[order], first, settings.ncis.aggregate)

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


def _acts(request: EvaluationRequest, states: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return each actor's actions in the states of a file, with one seed per file for all actors."""
    seed = int(rng.integers(2**32))
    return {name: policy.act(states, seed) for name, policy in request.actors.items()}


def _tallies(request: EvaluationRequest, own: Mapping[str, np.ndarray], logged: np.ndarray) -> dict[str, Tally]:
    """Return tallies of served items for the actors with their `own` actions, and for the logging policy."""
    tallies = {name: tally_policy(policy, own[name]) for name, policy in request.actors.items()}
    return {**tallies, LOGGING_POLICY: Tally(len(logged), count(logged))}


def _rng(file: str, request: EvaluationRequest) -> np.random.Generator:
    return np.random.default_rng((request.settings.seed, zlib.crc32(file.rsplit("/", 1)[-1].encode())))
