"""The pass over the requests: a Ray Data task a file, batched inference, one row a session for the driver."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data

from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.clone import BehaviourClone
from prefrec_ray.evaluation.ncis import request_log_weights, session_log_weights
from prefrec_ray.evaluation.served import Tally, count, tally_policy
from prefrec_ray.evaluation.sessions import Sessions, read_sessions, session_columns, session_rows
from prefrec_ray.evaluation.settings import NcisSettings
from prefrec_ray.evaluation.subjects import BEHAVIOUR, IMITATION, scored_subjects, subject_actions
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.memory import keep_freed_memory

#: Requests of the split on which it is looked at what the policies serve: finding the nearest item is the slow part.
SERVED_REQUESTS = 20_000


@dataclass(frozen=True)
class Pass:
    """What every task needs: put once into the object store."""

    uri: str
    split: str
    policies: Mapping[str, Policy]
    clone: BehaviourClone
    settings: NcisSettings
    seed: int
    served_rows: int  # a file


def score_split(
    dataset: PreparedDataset,
    split: str,
    policies: Mapping[str, Policy],
    clone: BehaviourClone,
    settings: NcisSettings,
    seed: int,
    progress: Callable[[int, int], None],
) -> tuple[Sessions, dict[str, list[Tally]]]:
    """All sessions of the split with the log weights of `scored_subjects(policies)`; and by name, a file each, what the
    policies, imitation and the logging policy ("behaviour") serve.

    `progress(done, total)` counts files. Raises `UserError` where the split has no requests.
    """
    files = dataset.files("requests", split)
    if not files:
        raise UserError(f"{dataset.uri}: no requests in the split '{split}'")
    shared = ray.put(
        Pass(dataset.uri, split, policies, clone, settings, seed, served_rows=-(-SERVED_REQUESTS // len(files)))
    )
    job = ray.data.from_items([{"file": file} for file in files], override_num_blocks=len(files)).map(
        _score_row, fn_kwargs={"shared": [shared]}
    )
    parts: list[Sessions] = []
    served: dict[str, list[Tally]] = {}
    for row in job.iter_rows():
        sessions, tallies = row["scores"]
        parts.append(sessions)
        for name, tally in tallies.items():
            served.setdefault(name, []).append(tally)
        progress(len(parts), len(files))
    return Sessions.concatenate(parts), served


def _score_row(row: dict[str, Any], shared: list[ray.ObjectRef]) -> dict[str, Any]:
    keep_freed_memory()
    # The reference travels inside a list: a bare one would be resolved for every task's arguments.
    return {"scores": score_file(row["file"], ray.get(shared[0]))}


def score_file(file: str, shared: Pass) -> tuple[Sessions, dict[str, Tally]]:
    """The sessions of one file of requests (whole users) and what is served for a sample of its requests."""
    dataset = PreparedDataset.open(shared.uri)
    requests = dataset.read(file, columns=["user_id", "session_index", "step", "item_id", "state", "action"])
    sessions = read_sessions(dataset, file, shared.split)
    order, first = session_rows(requests, sessions, file)
    states, logged = tensor(requests["state"]), tensor(requests["action"])
    rng = np.random.default_rng((shared.seed, zlib.crc32(file.rsplit("/", 1)[-1].encode())))

    own = {name: policy.act(states) for name, policy in shared.policies.items()}
    own[IMITATION] = shared.clone.policy.act(states)
    actions = subject_actions(own, shared.clone, rng)
    sigma = shared.settings.sigma * shared.clone.residual_rms
    log_weights = np.column_stack(
        [
            request_log_weights(logged, actions[subject.name], own[IMITATION], sigma, shared.settings.mode)
            for subject in scored_subjects(shared.policies)
        ]
    )
    log_rho = session_log_weights(log_weights[order], first, shared.settings.aggregate)

    rows = np.sort(rng.permutation(len(states))[: shared.served_rows])
    tallies = {name: tally_policy(policy, own[name][rows]) for name, policy in shared.policies.items()}
    tallies[IMITATION] = tally_policy(shared.clone.policy, own[IMITATION][rows])
    tallies[BEHAVIOUR] = Tally(len(rows), count(requests["item_id"].to_numpy()[rows]))
    return session_columns(sessions, log_rho), tallies
