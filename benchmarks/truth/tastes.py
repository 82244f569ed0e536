"""What the states' group `tastes` knows of a user, as what is shown changes: with either baseline (mdp/columns.py).

    python -m benchmarks tastes OUTPUT [--policy POLICY]

The world is all_at_once, whose users each have a direction of clickbait that turns. The logging policy shows `log`
requests; then it, `nutrition` and POLICY (RUN/policy of `prefrec train`) each show `requests` more to the same users. A
row: the cosine between what `tastes` says of one kind of feedback and the true direction, mean over users. Clickbait
draws clicks, time and shares; likes come with a good mood, whatever the item. OUTPUT/tastes.csv has all rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.harness import markdown
from benchmarks.truth.bench import world_of
from prefrec_ray import storage
from prefrec_ray.mdp.bulk import HistoryRows, raw_states
from prefrec_ray.mdp.state import Baseline, StateDefinition
from prefrec_ray.policy import Policy
from prefrec_ray.simulator.crowd import FEEDBACK, Crowd
from prefrec_ray.simulator.rollout import History, roll_out
from prefrec_ray.simulator.servers import OneOfBest, PolicyServer, Server, nutrition
from prefrec_ray.simulator.settings import EMBEDDING_DIM
from prefrec_ray.simulator.world import LOGGING, generator
from prefrec_ray.simulator.write import start_of_log


def main(
    output: Path, policy: Path | None = None, users: int = 400, log: int = 240, requests: int = 240
) -> dict[str, Any]:
    """Shows, asks the states, and prints a table."""
    world = world_of("all_at_once", users, log)
    crowd, logging = start_of_log(world, 0, np.arange(users))
    first = roll_out(crowd, logging, log)
    rows = list(known("logging policy", log, [first], crowd))
    for name, (later, server) in servers(crowd, logging, first, policy).items():
        rows += known(name, log + requests, [first, roll_out(later, server, requests)], later)
    storage.write_csv(storage.make_room(str(output / "tastes.csv")), rows)
    print(markdown(rows[0], [row.values() for row in rows]))
    return {"rows": rows}


def servers(crowd: Crowd, logging: Server, first: History, policy: Path | None) -> dict[str, tuple[Crowd, Server]]:
    """Each server, with a crowd of its own."""
    by_name: dict[str, tuple[Crowd, Server]] = {"logging policy": copy.deepcopy((crowd, logging))}
    best = copy.deepcopy(crowd)
    by_name["nutrition"] = best, OneOfBest(best, nutrition, generator(crowd.world.settings.seed, LOGGING, 0, 2))
    if policy is not None:
        mine = PolicyServer(Policy.load(str(policy)), crowd.traits.features, np.random.default_rng(0))
        for step in range(first.rows.shape[1]):
            mine.observe(first.time_ms[:, step], first.rows[:, step], first.feedback[:, step])
        by_name["policy"] = copy.deepcopy(crowd), mine
    return by_name


def known(name: str, after: int, parts: list[History], crowd: Crowd) -> Iterator[dict[str, Any]]:
    """A row for each baseline: cosines by feedback in the last states of these histories."""
    time_ms, rows, feedback = (
        np.concatenate([getattr(part, field) for part in parts], axis=1) for field in ("time_ms", "rows", "feedback")
    )
    users, requests = rows.shape
    history = HistoryRows(
        np.arange(users) * requests,
        time_ms.ravel(),
        np.zeros(users * requests, np.int64),  # sessions do not matter here
        feedback.reshape(users * requests, -1).astype(np.float32),
        crowd.world.embeddings[rows.ravel()].astype(np.float32),
        np.zeros((users, 0), np.float32),
    )
    direction = crowd.rules.directions()
    for baseline in get_args(Baseline):
        definition = StateDefinition(FEEDBACK, {}, EMBEDDING_DIM, taste_baseline=baseline)
        last = raw_states(definition, history)[requests - 1 :: requests, definition.groups["tastes"]]
        tastes = last.reshape(users, len(FEEDBACK), EMBEDDING_DIM)
        lengths = np.maximum(np.linalg.norm(tastes, axis=2), 1e-12)
        cosine = (np.einsum("ufa,ua->uf", tastes, direction) / lengths).mean(axis=0)
        cosines = {kind: f"{value:.2f}" for kind, value in zip(FEEDBACK, cosine, strict=True)}
        yield {"baseline": baseline, "shown by": name, "requests": after, **cosines}
