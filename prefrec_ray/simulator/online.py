"""True values: policies and controls rolled out with the very users of a prepared data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray import runtime
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import parse
from prefrec_ray.simulator.crowd import Crowd
from prefrec_ray.simulator.outcome import Outcome, outcome
from prefrec_ray.simulator.rollout import roll_out
from prefrec_ray.simulator.servers import (
    ClickChaser,
    OneOf,
    PolicyServer,
    ServedPolicy,
    Server,
    clickbait_rows,
    nutrition_rows,
)
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import ROLLOUT, Traits, World, generator
from prefrec_ray.terms import TASKS, Progress, silent

Maker = Callable[[World, Traits, np.random.Generator], Server]

BEHAVIOUR = "behaviour"
USERS_A_TASK = 128
RESAMPLES = 1000


@dataclass(frozen=True)
class _Subject:
    method: str
    role: str
    make: Maker


@dataclass(frozen=True)
class _Users:
    """Users of the data set: numbers in the world [n], mean depth and mean revisit time (NaN: none) in the log."""

    numbers: np.ndarray
    mean_depth: np.ndarray
    mean_revisit_ms: np.ndarray

    def take(self, rows: np.ndarray) -> _Users:
        return _Users(self.numbers[rows], self.mean_depth[rows], self.mean_revisit_ms[rows])


def evaluate_online(
    dataset: PreparedDataset,
    policies: Mapping[str, ServedPolicy],
    tasks: Sequence[str] = TASKS,
    split: str = "test",
    users: int = 500,
    requests: int = 250,
    seed: int = 0,
    progress: Progress = silent,
    controls: Mapping[str, ServedPolicy] | None = None,
) -> list[dict[str, Any]]:
    """Rolls every policy out, from the first request on and with fresh noise; a record a (task, subject).

    Beside `policies` stand the `controls` given (imitation, say) and behaviour, random items, constant action (the mean
    logged one), clickbait and nutrition, all with the same users and the same noise of users. A record: method, task,
    estimator ("online"), subject, role ("policy" or "control"), value (mean level of a user's sessions against the
    user's logged averages, then the mean over users), its 95 % bootstrap interval over users ci_low to ci_high, ess
    (None), behaviour (of the same users), gain_ci_low to gain_ci_high (the interval of value - behaviour, user by
    user), users, users_left_out (they have no level), sessions, mean_depth, mean_revisit_hours, mean_satisfaction (over
    users of their means), settings.

    Raises `UserError`: a data set whose logs no simulator made, a split without users, a subject's name taken twice.
    """
    settings = world_settings(dataset)
    chosen = _choose_users(dataset, settings, split, users, seed)
    subjects = _subjects(dataset, policies, controls or {})
    runtime.start_ray()
    outcomes = _roll_out_all(subjects, settings, chosen, dataset.metadata.mixture_weight, requests, seed, progress)
    described = {"split": split, "requests": requests, "seed": seed}
    return [
        {
            "method": subject.method,
            "task": task,
            "estimator": "online",
            "subject": name,
            "role": subject.role,
            **_score(outcomes[name], outcomes[BEHAVIOUR], task, seed),
            "settings": described,
        }
        for task in tasks
        for name, subject in subjects.items()
    ]


def true_level(
    dataset: PreparedDataset,
    policy: ServedPolicy,
    task: str,
    split: str,
    users: int,
    requests: int = 250,
    seed: int = 0,
) -> float:
    """The value that `evaluate_online` gives `policy`, found in this process, without tasks and without controls.

    Users have a level here even where behaviour has left them without one. NaN where nobody has a level.
    """
    settings = world_settings(dataset)
    chosen = _choose_users(dataset, settings, split, users, seed)
    parts = np.array_split(np.arange(len(chosen.numbers)), -(-len(chosen.numbers) // USERS_A_TASK))
    weight = dataset.metadata.mixture_weight
    found = [
        _roll_out_users(settings, _maker(policy), chosen.take(rows), part, weight, requests, seed).levels[task]
        for part, rows in enumerate(parts)
    ]
    return _finite_mean(np.concatenate(found)) or float("nan")


def world_settings(dataset: PreparedDataset) -> SimulateSettings:
    """The world that a data set's logs come from. Raises `UserError` where that is none."""
    world = dataset.metadata.world
    if world is None:
        raise UserError(f"{dataset.uri}: not made from logs of the simulator; roll-outs need a world")
    return parse(SimulateSettings, world, f"{dataset.uri}/metadata.json: world")


def _choose_users(dataset: PreparedDataset, settings: SimulateSettings, split: str, users: int, seed: int) -> _Users:
    """At most `users` users of the split, drawn by the seed, ascending."""
    tables = []
    for file in dataset.files("sessions"):
        table = dataset.read(file, ["user_id", "depth", "revisit_ms", "split"])
        table = table.filter(pc.equal(table["split"], split))
        tables.append(table.group_by("user_id").aggregate([("depth", "mean"), ("revisit_ms", "mean")]))
    table = pa.concat_tables(tables).sort_by("user_id")
    if not table.num_rows:
        raise UserError(f"{dataset.uri}: no user in the split '{split}'")
    numbers = table["user_id"].to_numpy()
    if numbers[-1] >= settings.users:
        raise UserError(f"{dataset.uri}: user {numbers[-1]} is not in its world of {settings.users} users")
    mean_revisit_ms = table["revisit_ms_mean"].cast(pa.float64()).fill_null(np.nan).to_numpy()
    found = _Users(numbers, table["depth_mean"].to_numpy(), mean_revisit_ms)
    drawn = np.random.default_rng(seed).choice(len(numbers), min(users, len(numbers)), replace=False)
    return found.take(np.sort(drawn))


def _subjects(
    dataset: PreparedDataset, policies: Mapping[str, ServedPolicy], controls: Mapping[str, ServedPolicy]
) -> dict[str, _Subject]:
    mean_action = tensor(dataset.read(dataset.files("transitions")[0], ["action"])["action"]).mean(axis=0)
    constant = dataset.items().ids[dataset.items().nearest(mean_action[None], 1, "nearest")[0]]
    by_hand: dict[str, Maker] = {
        BEHAVIOUR: lambda world, traits, rng: ClickChaser(world, traits.taste, rng),
        "random items": lambda world, _, rng: OneOf(np.arange(len(world.embeddings)), rng),
        "constant action": lambda world, _, rng: OneOf(constant, rng),
        "clickbait": lambda world, traits, rng: OneOf(clickbait_rows(world)[traits.taste], rng),
        "nutrition": lambda world, traits, rng: OneOf(nutrition_rows(world)[traits.taste], rng),
    }
    subjects = {name: _Subject(name, "control", make) for name, make in by_hand.items()}
    for role, given in (("policy", policies), ("control", controls)):
        for name, policy in given.items():
            if name in subjects:
                raise UserError(f"policy name '{name}': another subject bears it; expected another name")
            method = str(getattr(policy, "provenance", {}).get("method", name))
            subjects[name] = _Subject(method, role, _maker(policy))
    return subjects


def _maker(policy: ServedPolicy) -> Maker:
    return lambda world, traits, rng: PolicyServer(policy, traits.features)


def _roll_out_all(
    subjects: Mapping[str, _Subject],
    settings: SimulateSettings,
    users: _Users,
    weight: float,
    requests: int,
    seed: int,
    progress: Progress,
) -> dict[str, list[Outcome]]:
    """The outcomes of every subject, in the order of the users."""
    parts = np.array_split(np.arange(len(users.numbers)), -(-len(users.numbers) // USERS_A_TASK))
    makers = {name: ray.put(subject.make) for name, subject in subjects.items()}

    def submit(piece: tuple[str, int]) -> Any:
        name, part = piece
        return _roll_out_part.remote(settings, makers[name], users.take(parts[part]), part, weight, requests, seed)

    pieces = [(name, part) for name in subjects for part in range(len(parts))]
    results = run_tasks(submit, pieces, "online", progress)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in subjects}
    for (name, _), result in zip(pieces, results, strict=True):
        outcomes[name].append(result)
    return outcomes


def _roll_out_users(
    settings: SimulateSettings, make: Maker, users: _Users, part: int, weight: float, requests: int, seed: int
) -> Outcome:
    world = World(settings)
    traits = world.traits(users.numbers)
    # What users do draws from a stream of its own: whoever serves, the same user meets the same luck.
    crowd = Crowd(settings.world, traits, generator(settings.seed, ROLLOUT, seed, part, 0))
    server = make(world, traits, generator(settings.seed, ROLLOUT, seed, part, 1))
    history = roll_out(crowd, server, world.clickbait, requests)
    return outcome(history, users.mean_depth, users.mean_revisit_ms, weight)


_roll_out_part = ray.remote(num_cpus=1)(_roll_out_users)


def _score(parts: Sequence[Outcome], behaviour: Sequence[Outcome], task: str, seed: int) -> dict[str, Any]:
    """The figures of a record. Users without a level, under the subject or under behaviour, are left out."""
    value, usual = (np.concatenate([part.levels[task] for part in group]) for group in (parts, behaviour))
    kept = np.isfinite(value) & np.isfinite(usual)
    if not kept.any():
        raise UserError(f"roll-out: no session has a level of {task}; expected more requests a user")
    value, usual = value[kept], usual[kept]
    (low, high), (gain_low, gain_high) = _intervals(np.stack([value, value - usual], axis=1), seed)
    return {
        "value": float(value.mean()),
        "ci_low": low,
        "ci_high": high,
        "ess": None,
        "behaviour": float(usual.mean()),
        "gain_ci_low": gain_low,
        "gain_ci_high": gain_high,
        "users": int(kept.sum()),
        "users_left_out": int((~kept).sum()),
        "sessions": int(np.concatenate([part.sessions[task] for part in parts])[kept].sum()),
        "mean_depth": float(np.concatenate([part.depth for part in parts]).mean()),
        "mean_revisit_hours": _finite_mean(np.concatenate([part.revisit_hours for part in parts])),
        "mean_satisfaction": float(np.concatenate([part.satisfaction for part in parts]).mean()),
    }


def _intervals(values: np.ndarray, seed: int) -> list[tuple[float, float]]:
    """The 95 % percentile interval of the mean of each column of `values` [users, columns]; users are drawn again."""
    users = len(values)
    drawn = np.random.default_rng(seed).multinomial(users, np.full(users, 1.0 / users), RESAMPLES)
    low, high = np.quantile(drawn @ values / users, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _finite_mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
