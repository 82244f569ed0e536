"""True levels of policies from logged moments on, with which `python -m benchmarks estimators` compares estimates.

Fitted Q and doubly robust do not estimate what a roll-out from a user's first request measures. They estimate the mean
level of the sessions from the start of a *logged* session on, with weights that fall by `gamma_session` per session.
The simulator has the true value: it repeats the log (the same seeds make the same users, states and requests) up to the
starts of some sessions of each test user; from there the policy serves, with the history up to that request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement import levels_against, session_table, user_means
from prefrec_ray.evaluation.behavior import fit_clone
from prefrec_ray.evaluation.online import world_settings
from prefrec_ray.evaluation.policy_server import PolicyServer
from prefrec_ray.evaluation.results.names import CONSTANT, IMITATION, LOGGING_POLICY, RANDOM_ITEMS
from prefrec_ray.evaluation.results.scores import bootstrap_interval
from prefrec_ray.policy import Policy
from prefrec_ray.simulator.catalogue import Traits
from prefrec_ray.simulator.crowd import FEEDBACK, Crowd
from prefrec_ray.simulator.law import ROLLOUT, Choice, CrowdServer, generator
from prefrec_ray.simulator.rollout import History, roll_out, start_of_log
from prefrec_ray.simulator.servers import FirstOf, LoggingPolicy, RandomItems
from prefrec_ray.simulator.settings import BLOCK
from prefrec_ray.simulator.world import World

Maker = Callable[[Crowd], CrowdServer]

SESSIONS_A_USER = 3
REQUESTS = 250


class _Recorded:
    """The logging policy, with a record of its state before each request."""

    def __init__(self, server: LoggingPolicy) -> None:
        self.server = server
        self.strength: list[np.ndarray] = []
        self.remaining: list[np.ndarray] = []

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        self.strength.append(self.server.strength.copy())
        self.remaining.append(self.server.remaining.copy())
        return self.server.serve(time_ms, excluded)

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        self.server.observe(time_ms, rows, feedback)


@dataclass(frozen=True)
class Moments:
    """Starts of logged sessions [m]; those of a user are adjacent."""

    user: np.ndarray  # numbers in the world, ascending
    step: np.ndarray  # requests of the user before it
    traits: Traits
    exposure: np.ndarray  # at that moment
    history: History  # [m, requests]: the whole log of each moment's user
    strength: np.ndarray  # of the logging policy
    remaining: np.ndarray
    mean_depth: np.ndarray  # of the user in the log
    mean_revisit_ms: np.ndarray

    def __len__(self) -> int:
        return len(self.step)


def moments(world: World, users: np.ndarray, sessions: int, seed: int) -> Iterator[Moments]:
    """Up to `sessions` starts of sessions of each user, one block of the world at a time; without last sessions."""
    rng = np.random.default_rng(seed)
    for block in np.unique(users // BLOCK):
        numbers = world.settings.block_users(int(block))
        crowd, chaser = start_of_log(world, int(block))
        traits, server = crowd.traits, _Recorded(chaser)
        history = roll_out(crowd, server, int(traits.requests.max()))
        rows, steps, depth, revisit = [], [], [], []
        for row in np.flatnonzero(np.isin(numbers, users)):
            logged = slice(0, traits.requests[row])
            one = np.zeros(traits.requests[row], dtype=np.int64)
            table = session_table(one, history.time_ms[row, logged], history.session[row, logged])
            if len(table) > 1:
                starts = table.first_row[:-1]
                drawn = np.sort(rng.choice(starts, min(sessions, len(starts)), replace=False))
                rows += [row] * len(drawn)
                steps += drawn.tolist()
                depth += [table.depth.mean()] * len(drawn)
                revisit += [np.nanmean(table.revisit_ms)] * len(drawn)
        row, step = np.array(rows), np.array(steps)
        own = world.traits(numbers[row])
        felt = np.float64(history.satisfaction[row, np.maximum(step - 1, 0)])
        exposure = np.where(step == 0, own.exposure, np.log(felt / (1 - felt)) / own.sensitivity)
        yield Moments(
            user=numbers[row],
            step=step,
            traits=own,
            exposure=exposure.astype(np.float32),
            history=History(**{name: values[row] for name, values in vars(history).items()}),
            strength=np.array(server.strength)[step, row],
            remaining=np.array(server.remaining)[step, row],
            mean_depth=np.array(depth),
            mean_revisit_ms=np.array(revisit),
        )


def warmed(policy: Policy, at: Moments) -> PolicyServer:
    """The server of `policy` that has seen each moment's history up to it."""
    server = PolicyServer(policy, at.traits.features, np.random.default_rng(0))
    past = at.history
    for step in range(int(at.step.max())):
        users = np.flatnonzero(at.step > step)
        feedback = dict(zip(FEEDBACK, past.feedback[users, step].T, strict=True))
        server.tracker.observe(past.time_ms[users, step], past.rows[users, step], feedback, users=users)
    return server


def levels(world: World, at: Moments, make: Maker, seed: int, weight: float, gamma: float) -> dict[str, np.ndarray]:
    """By task, the mean level [m] of the sessions from each moment on; session k weighs gamma^k, without the last.

    For worlds without rules, in which nothing but exposure and time is left of a user's past.
    """
    crowd = Crowd(world, at.traits, generator(world.settings.seed, ROLLOUT, seed, 0))
    start = at.history.time_ms[np.arange(len(at)), at.step]
    crowd.exposure, crowd.time_ms = at.exposure.copy(), start.copy()
    future = roll_out(crowd, make(crowd), REQUESTS)
    moment = np.repeat(np.arange(len(at)), REQUESTS)
    table = session_table(moment, future.time_ms.ravel(), future.session.ravel())
    ended = ~np.isnan(table.revisit_ms)
    of = table.user[ended]
    weights = gamma ** table.session_index[ended].astype(float)
    total = np.bincount(of, weights, len(at))
    total[total == 0] = np.nan  # its sessions have not ended
    return {
        task: np.bincount(of, weights * level[ended], len(at)) / total
        for task, level in levels_against(table, at.mean_depth, at.mean_revisit_ms, weight).items()
    }


def user_values(at: Moments, value: np.ndarray) -> np.ndarray:
    """Means over the moments of each user, of those that have a value."""
    users, row = np.unique(at.user, return_inverse=True)
    return user_means(row, value, len(users))


def servers(policies: Mapping[str, Policy], ranking: np.ndarray, at: Moments) -> Iterator[tuple[str, Maker]]:
    """What makes the server of each subject, in its state `at` the moments."""

    def logging_policy(crowd: Crowd) -> CrowdServer:
        server = LoggingPolicy(crowd, np.random.default_rng(1))
        server.strength, server.remaining = at.strength.copy(), at.remaining.copy()
        return server

    yield LOGGING_POLICY, logging_policy
    yield RANDOM_ITEMS, lambda crowd: RandomItems(len(crowd.world.embeddings), np.random.default_rng(2))
    yield CONSTANT, lambda crowd: FirstOf(ranking)
    for name, policy in policies.items():
        yield name, lambda crowd, policy=policy: warmed(policy, at)


def moment_records(
    evaluation: dict[str, Any], dataset: PreparedDataset, gamma: float, name: str
) -> list[dict[str, Any]]:
    """A record with `name` as its estimator for each policy and control of `evaluation` that was rolled out; `gamma`
    from one session to the next (0: of the session alone that starts there)."""
    world = World(world_settings(dataset))
    online = [record for record in evaluation["records"] if record["estimator"] == "online"]
    clone = fit_clone(dataset, seed=0)
    policies = {r["subject"]: Policy.load(r["bundle"]) for r in online if r["role"] == "policy"}
    policies[IMITATION] = clone.policy
    items = dataset.items()
    ranking = items.ids[items.nearest(clone.mean_action[None], len(items))[0]]
    files = dataset.files("requests", "test")
    users = np.unique(np.concatenate([dataset.read(file, ["user_id"])["user_id"] for file in files]))
    weight = dataset.metadata.mixture_weight
    values: dict[str, list[dict[str, np.ndarray]]] = {}
    for at in moments(world, users, SESSIONS_A_USER, seed=0):
        for subject, make in servers(policies, ranking, at):
            level_of = levels(world, at, make, int(at.user[0]) // BLOCK, weight, gamma)
            values.setdefault(subject, []).append({task: user_values(at, level) for task, level in level_of.items()})
    records: list[dict[str, Any]] = []
    for record in online:
        if record["subject"] in values:
            task = record["task"]
            mine, logged = (
                np.concatenate([part[task] for part in values[subject]])
                for subject in (record["subject"], LOGGING_POLICY)
            )
            kept = np.isfinite(mine) & np.isfinite(logged)
            records.append({**record, "estimator": name, **_figures(mine[kept], logged[kept])})
    return records


def _figures(policy: np.ndarray, logging_policy: np.ndarray) -> dict[str, Any]:
    low, high = bootstrap_interval(np.stack([policy, policy - logging_policy], axis=1), seed=0)
    means = {"value": float(policy.mean()), "behaviour": float(logging_policy.mean()), "users": len(policy)}
    ends = zip(("ci_low", "gain_ci_low", "ci_high", "gain_ci_high"), [*low, *high], strict=True)
    return {**means, **{name: float(end) for name, end in ends}}
