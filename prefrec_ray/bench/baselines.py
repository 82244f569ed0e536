"""Baselines of the bench, as submissions: functions that return a policy, or a maker of servers, for one world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.algorithms import PATHS
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.policy import Policy
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import start_run
from prefrec_ray.runtime.progress import Report, silent
from prefrec_ray.settings import Task
from prefrec_ray.simulator.law import Choice, CrowdServer
from prefrec_ray.simulator.servers import BEST_ITEMS, IgnoresFeedback, RandomItems

#: Creates the server of n users from their features (strings [n] by name), with a generator of random numbers. Items
#: are served by their ids, which are their rows in `logs`/items.parquet.
MakeServer = Callable[[Mapping[str, np.ndarray], np.random.Generator], CrowdServer]


@dataclass(frozen=True)
class Given:
    """Inputs of a submission in one world, without the world's law and seed.

    `dataset`: prepared from the folder `logs` (docs/formats.md). `task`: of the true level.
    `seed`: for the submission's own random numbers. `folder`: for its files; what it has written is there again if the
    bench was killed. `progress`: called with the stages of a training.
    """

    dataset: PreparedDataset
    logs: str
    task: Task
    seed: int
    folder: str
    progress: Report = silent


def trained(given: Given, method: str, **config: Any) -> Policy:
    """Return the policy of a method under the recipe `robust`, with changes of its settings."""
    run = storage.join(given.folder, "run")
    policy = storage.join(run, "policy")
    if not storage.exists(policy):
        settings = TrainSettings(method=method, task=given.task, seed=given.seed, config=config)
        start_run(settings, given.dataset.uri, run, resume=storage.exists(run), report=given.progress)
    return Policy.load(policy)


PrefRec, DDPG, TD3, SAC, TD3_BC, BCQ, IQL, IL = (partial(trained, method=name) for name in PATHS)


def clicks(given: Given) -> Policy:
    """Q-learning with the first feedback as reward, served greedily: SlateQ (Ie et al. 2019) on pages of one item.

    Its data set is prepared from the raw log: a reward is never in the state.
    """
    own = storage.join(given.folder, "dataset")
    if not storage.exists(own):
        log = storage.read_json(storage.join(given.logs, "log.json"))
        first, *others = log["feedback"]
        content = {"features": log["item_features"]} if log["item_features"] else {"embedding": "embedding"}
        source = {
            "kind": "files",
            "path": storage.join(given.logs, "interactions"),
            **{"user": "user_id", "item": "item_id", "time": "timestamp", "time_unit": "ms"},
            "feedback": others,
            "reward": first,
            "items": {"path": storage.join(given.logs, "items.parquet"), **content},
        }
        prepare(PrepareSettings.model_validate({**given.dataset.metadata.settings, "source": source}), own)
    greedy = {"rule": "best", "variety": 0.0, "repetition": 0.0, "scores": "q", "temperature": 1.0}
    learned = replace(given, dataset=PreparedDataset.open(own))
    return trained(learned, "DDPG", reward_source="column", reward_horizon=1, serving=greedy)


def random_items(given: Given) -> MakeServer:
    items = len(given.dataset.items())
    return lambda features, rng: RandomItems(items, rng)


def popular(given: Given) -> MakeServer:
    """Serve one of the ten items with most first feedback in the log."""
    _, total = feedback_by_item(given)
    return lambda features, rng: OneOfFirst(np.argsort(-total, kind="stable"), rng)


def bandit(given: Given) -> MakeServer:
    """Learn the mean first feedback of each item by Thompson sampling, from the log on."""
    count, total = feedback_by_item(given)
    return lambda features, rng: ThompsonSampling(count.copy(), total.copy(), rng)


def feedback_by_item(given: Given) -> tuple[np.ndarray, np.ndarray]:
    """Return impressions of training users, and their sum of first feedback, float64 [items] each."""
    rows, items = given.dataset.arrays("requests", "train", columns=["item_id", "feedback"]), given.dataset.items()
    count = np.bincount(rows["item_id"], minlength=len(items))
    return count.astype(float), np.bincount(rows["item_id"], rows["feedback"][:, 0], len(items))


class OneOfFirst(IgnoresFeedback):
    """Serves a random one of the first ten items of `ranking` (all rows, best first) that are not excluded."""

    def __init__(self, ranking: np.ndarray, rng: np.random.Generator) -> None:
        self.ranking, self.rng = ranking, rng

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        out = np.zeros((len(time_ms), len(self.ranking)), bool) if excluded is None else excluded[:, self.ranking]
        count = np.minimum(BEST_ITEMS, (~out).sum(axis=1))
        first = np.argsort(out, axis=1, kind="stable")
        drawn = first[np.arange(len(out)), self.rng.integers(0, count)]
        return Choice(self.ranking[drawn], 1.0 / count)


class ThompsonSampling:
    """Serves the item with the largest draw from a normal posterior of its mean feedback (Chapelle and Li 2011).

    The posterior of an item with n impressions and the sum s has mean (s + m) / (n + 1) and variance v / (n + 1), with
    mean m and variance v of the feedback on all items. Propensities are unknown.
    """

    def __init__(self, count: np.ndarray, total: np.ndarray, rng: np.random.Generator) -> None:
        self.count, self.total, self.rng = count, total, rng
        self.mean = total.sum() / count.sum()
        self.deviation = np.sqrt(max(self.mean * (1.0 - self.mean), 1e-6))

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        """Return one item per user, each by a draw of its own."""
        noise = self.rng.standard_normal((len(time_ms), len(self.count)))
        posterior = (self.total + self.mean) / (self.count + 1.0)
        drawn = posterior + self.deviation / np.sqrt(self.count + 1.0) * noise
        if excluded is not None:
            drawn[excluded] = -np.inf
        return Choice(drawn.argmax(axis=1), np.nan)

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Add the first feedback of each user's item."""
        np.add.at(self.count, rows, 1.0)
        np.add.at(self.total, rows, feedback[:, 0])


#: Object paths by name; "random" is a control of every world, too.
SUBMISSIONS = {
    **{name: f"prefrec_ray.bench.baselines:{name}" for name in (*PATHS, "clicks", "bandit", "popular")},
    "plain": "prefrec_ray.bench.plain:plain",
    "random": "prefrec_ray.bench.baselines:random_items",
}
