"""True values: policies and controls rolled out in the simulator with the users of a prepared data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray import runtime
from prefrec_ray.dataset import PreparedDataset, floats, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.policy_server import PolicyServer
from prefrec_ray.evaluation.results.names import CONSTANT, LOGGING_POLICY, RANDOM_ITEMS, Role, Subject
from prefrec_ray.evaluation.results.records import Record
from prefrec_ray.evaluation.results.scores import RESAMPLES
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.progress import Progress, silent
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import TASKS, Split, Task, parse
from prefrec_ray.simulator.law import ROLLOUT, CrowdServer, SimulatedCrowd, generator
from prefrec_ray.simulator.rollout import Outcome, outcome, roll_out
from prefrec_ray.simulator.servers import FirstOf, LoggedItems, OneOfBest, RandomItems
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import load_world

Maker = Callable[[SimulatedCrowd, np.random.Generator], CrowdServer]

USERS_A_TASK = 128


@dataclass(frozen=True)
class RollOut:
    """Size of a roll-out: at most `users` users of the split, with `requests` impressions each."""

    split: Split = "test"
    users: int = 500
    requests: int = 250
    seed: int = 0


@dataclass(frozen=True)
class _World:
    """Common inputs of all roll-outs, stored once in the object store.

    `users`: user_id (numbers in the world), depth_mean and revisit_ms_mean in the log. `weight`: of depth in the
    mixture.
    """

    settings: SimulateSettings
    users: pa.Table
    weight: float
    how: RollOut

    @classmethod
    def from_dataset(cls, dataset: PreparedDataset, how: RollOut) -> _World:
        """Return the world of the data set's logs, with users of the split drawn by the seed, in ascending order."""
        settings = world_settings(dataset)
        tables = []
        for file in dataset.files("sessions"):
            table = dataset.read(file, ["user_id", "depth", "revisit_ms", "split"])
            table = table.filter(pc.equal(table["split"], how.split))
            tables.append(table.group_by("user_id").aggregate([("depth", "mean"), ("revisit_ms", "mean")]))
        users = pa.concat_tables(tables).sort_by("user_id")
        if not users.num_rows:
            raise UserError(f"{dataset.uri}: no user in the split '{how.split}'")
        last = users["user_id"][-1].as_py()
        if last >= settings.users:
            raise UserError(f"{dataset.uri}: user {last} is not in its world of {settings.users} users")
        drawn = np.random.default_rng(how.seed).choice(users.num_rows, min(how.users, users.num_rows), replace=False)
        return cls(settings, users.take(np.sort(drawn)), dataset.metadata.mixture_weight, how)

    @property
    def parts(self) -> list[np.ndarray]:
        """Return the rows of the users, one part per task."""
        count = self.users.num_rows
        return np.array_split(np.arange(count), -(-count // USERS_A_TASK))

    def roll_out(self, part: int, make: Maker) -> Outcome:
        """Roll out the server that `make` creates with the users of one part."""
        users = self.users.take(self.parts[part])
        simulated, seed = load_world(self.settings), (self.settings.seed, ROLLOUT, self.how.seed, part)
        # Users have their own random stream, so that a user has the same random numbers under every server.
        crowd = simulated.crowd(users["user_id"].to_numpy(), generator(*seed, 0))
        server, examination = make(crowd, generator(*seed, 1)), generator(*seed, 2)
        history = roll_out(crowd, server, self.how.requests, examination)
        mean_revisit_ms = floats(users["revisit_ms_mean"])
        return outcome(history, users["depth_mean"].to_numpy(), mean_revisit_ms, self.weight)


def evaluate_online(
    dataset: PreparedDataset,
    policies: Mapping[str, Policy],
    tasks: Sequence[Task] = TASKS,
    how: RollOut = RollOut(),
    controls: Mapping[str, Policy] | None = None,
    progress: Progress = silent,
    servers: Mapping[str, Maker] | None = None,
) -> list[Record]:
    """Roll out every policy from the first impression on, with new noise. Returns one record per task and subject.

    Subjects are the `policies`, the given `controls` (for example behavior cloning), the `servers` that are not
    policies, the logging policy, random items, the constant action (the mean logged action) and the controls of the
    world, all with the same users and noise. A record's value is the mean level of a user's sessions relative to the
    user's logged means, averaged over users with a level under the subject and under the logging policy
    (`users_left_out`: the others). mean_depth, mean_revisit_hours and mean_satisfaction are means over all users.

    Raises `UserError`: a data set that does not come from the simulator, a split without users, a duplicate name.
    """
    world = _World.from_dataset(dataset, how)
    makers = {**_controls(dataset, list(load_world(world.settings).controls)), **(servers or {})}
    subjects = [Subject(name, name, "control") for name in makers]
    rolled: list[tuple[Role, Mapping[str, Policy]]] = [("policy", policies), ("control", controls or {})]
    for role, members in rolled:
        for name, policy in members.items():
            if name in makers:
                raise UserError(f"policy name '{name}': another subject has this name; expected another name")
            makers[name] = _maker(policy, dataset)
            subjects.append(Subject(name, str(policy.provenance.get("method", name)), role))
    runtime.start_ray()
    outcomes = _roll_out_all(world, makers, progress)
    about = {"split": how.split, "requests": how.requests, "seed": how.seed}
    return [
        Record(
            method=subject.method,
            task=task,
            estimator="online",
            subject=subject.name,
            role=subject.role,
            **_figures(outcomes[subject.name], outcomes[LOGGING_POLICY], task, how.seed),
            settings=about,
        )
        for task in tasks
        for subject in subjects
    ]


def true_level(dataset: PreparedDataset, policy: Policy, task: Task, how: RollOut) -> float:
    """Return the value of `evaluate_online` for `policy`, computed in this process without controls.

    Users count even if they have no level under the logging policy. NaN if no user has a level.
    """
    world = _World.from_dataset(dataset, how)
    outcomes = [world.roll_out(part, _maker(policy, dataset)) for part in range(len(world.parts))]
    level = _finite_mean(Outcome.concatenate(outcomes).levels[task])
    return float("nan") if level is None else level


def levels_of_logged_items(dataset: PreparedDataset) -> dict[Task, float]:
    """Return the mean level by task of test users who are shown their logged items again, computed in this process.

    Estimates of gains are relative to these levels. The logging policy rolled out anew is another reference: if a
    user's exposure never changes in the log, it draws another exposure. Raises `UserError` for pages of several items.
    """
    how = RollOut()
    world = _World.from_dataset(dataset, how)
    if world.settings.page > 1:
        raise UserError(f"{dataset.uri}: key 'world.page': found {world.settings.page}; expected 1 for true gains")
    files = dataset.files("requests", how.split)
    log = pa.concat_tables([dataset.read(file, ["user_id", "timestamp", "item_id"]) for file in files])
    log = log.sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    users, first = np.unique(log["user_id"].to_numpy(), return_index=True)
    items = dict(zip(users.tolist(), np.split(log["item_id"].to_numpy(), first[1:]), strict=True))

    def again(part: int, rows: np.ndarray) -> Outcome:
        server = LoggedItems([items[user] for user in world.users["user_id"].take(rows).to_pylist()])
        return world.roll_out(part, lambda crowd, rng: server)

    levels = Outcome.concatenate([again(part, rows) for part, rows in enumerate(world.parts)]).levels
    return {task: float(np.nanmean(levels[task])) for task in TASKS}


def world_settings(dataset: PreparedDataset) -> SimulateSettings:
    """Return the world of a data set's logs. Raises `UserError` if they do not come from the simulator."""
    world = dataset.metadata.world
    if world is None:
        raise UserError(
            f"{dataset.uri}: found logs that do not come from the simulator; expected simulated logs for roll-outs"
        )
    return parse(SimulateSettings, world, f"{dataset.uri}/metadata.json: world")


def _controls(dataset: PreparedDataset, of_world: Sequence[str]) -> dict[str, Maker]:
    """Return the logging policy, random items, the constant action and the controls of the world."""
    mean_action = tensor(dataset.read(dataset.files("transitions")[0], ["action"])["action"]).mean(axis=0)
    items = dataset.items()
    ranking = items.ids[items.nearest(mean_action[None], len(items))[0]]
    return {
        LOGGING_POLICY: lambda crowd, rng: crowd.world.logging_policy(crowd, rng),
        RANDOM_ITEMS: lambda crowd, rng: RandomItems(crowd.world.settings.items, rng),
        CONSTANT: lambda crowd, rng: FirstOf(ranking),
        **{name: _one_of_best(name) for name in of_world},
    }


def _one_of_best(control: str) -> Maker:
    # The cost is looked up in the worker, which imports a user's own law by its name.
    return lambda crowd, rng: OneOfBest(crowd, crowd.world.controls[control], rng)


def _maker(policy: Policy, dataset: PreparedDataset) -> Maker:
    rest_ms, examined = dataset.metadata.rest_ms, dataset.metadata.dropped.get("unexamined", 0) > 0
    return lambda crowd, rng: PolicyServer(policy, crowd.features, rng, crowd.world.feedback, rest_ms, examined)


def _roll_out_all(world: _World, makers: Mapping[str, Maker], progress: Progress) -> dict[str, Outcome]:
    """Return the outcome of every subject, with the users in their order."""
    shared, made = ray.put(world), {name: ray.put(make) for name, make in makers.items()}
    pieces = [(name, part) for name in makers for part in range(len(world.parts))]
    results = run_tasks(
        lambda piece: _roll_out.remote(shared, piece[1], made[piece[0]]),
        pieces,
        "roll out in the simulator: parts",
        progress,
    )
    outcomes: dict[str, list[Outcome]] = {name: [] for name in makers}
    for (name, _), result in zip(pieces, results, strict=True):
        outcomes[name].append(result)
    return {name: Outcome.concatenate(parts) for name, parts in outcomes.items()}


@ray.remote(num_cpus=1)
def _roll_out(world: _World, part: int, make: Maker) -> Outcome:
    return world.roll_out(part, make)


def _figures(own: Outcome, logging: Outcome, task: Task, seed: int) -> dict[str, Any]:
    """Return the figures of a record. Users without a level under the subject or the logging policy are excluded."""
    value, logged = own.levels[task], logging.levels[task]
    kept = np.isfinite(value) & np.isfinite(logged)
    if not kept.any():
        raise UserError(f"roll-out: no session has a level of {task}; expected more impressions per user")
    value, logged = value[kept], logged[kept]
    (low, high), (gain_low, gain_high) = _intervals(np.stack([value, value - logged], axis=1), seed)
    return {
        "value": float(value.mean()),
        "ci_low": low,
        "ci_high": high,
        "ess": None,
        "behaviour": float(logged.mean()),
        "gain_ci_low": gain_low,
        "gain_ci_high": gain_high,
        "users": int(kept.sum()),
        "users_left_out": int((~kept).sum()),
        "sessions": int(own.sessions[task][kept].sum()),
        "mean_depth": float(own.depth.mean()),
        "mean_revisit_hours": _finite_mean(own.revisit_hours),
        "mean_satisfaction": float(own.satisfaction.mean()),
    }


def _intervals(values: np.ndarray, seed: int) -> list[tuple[float, float]]:
    """Return the 95 % bootstrap interval over users of the mean of each column of `values` [users, columns]."""
    users = len(values)
    drawn = np.random.default_rng(seed).multinomial(users, np.full(users, 1.0 / users), RESAMPLES)
    low, high = np.quantile(drawn @ values / users, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _finite_mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
