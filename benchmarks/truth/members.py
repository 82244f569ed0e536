"""What the mean of several rewards is worth: `python -m benchmarks members LOG [--task depth] [--seed 10]`.

LOG is a folder WORLD/logN of `python -m benchmarks truth`. Rewards with other first weights are learned from the same
mini-batches. Printed are their correlations with the true satisfaction, both as means of the next 100 requests, and
the true scores of policies on the first reward's labels and on those of the mean: (level - logging policy) /
(nutrition - logging policy).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import ray
import yaml

from benchmarks.truth.bench import SWEEP
from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_transitions
from prefrec_ray.algorithms.reward.pretrain import pretrain
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.online import RollOut, evaluate_online
from prefrec_ray.runs.train import policy_now
from prefrec_ray.runtime import start_ray
from prefrec_ray.settings import Task


def main(log: Path, task: str = "depth", seed: int = 10, members: int = 3) -> dict[str, Any]:
    """Prints correlations and scores."""
    start_ray()
    data = PreparedDataset.open(str((log / "dataset").resolve()))
    base = {**yaml.safe_load(SWEEP.read_text())["tune"]["base"], "reward_members": 1}
    config = PrefRecConfig().offline_data(input_=data.uri).training(task=task, **base)
    loaded = load_data(config.data_request)
    truth = ray.get(label_transitions(data, None, config.reward_horizon))
    labels, first = [], None
    for number in range(members):
        request = config.copy().debugging(seed=seed + 1000 * number).reward_request
        assert request is not None
        reward = pretrain(request, loaded)
        first = first or reward
        label = ray.get(label_transitions(data, RewardFunction.of(request, reward), config.reward_horizon))
        labels.append(label / label.std())
    averaged = np.mean(labels, axis=0).astype(np.float32)
    correlations = [float(np.corrcoef(one, truth)[0, 1]) for one in (*labels, averaged)]
    policies = {}
    for name, one in (("one", labels[0]), ("mean", averaged)):
        run = config.copy().debugging(seed=seed)
        algorithm = run.offline_data(loaded_data=loaded, pretrained_reward=first, labels=ray.put(one)).build_algo()
        while not algorithm.train()["done"]:
            pass
        policies[name] = policy_now(algorithm)
        algorithm.stop()
    how = RollOut(users=120, requests=250)
    records = [r for r in evaluate_online(data, policies, how=how) if r.task == cast(Task, task)]
    level, behaviour = {r.subject: r.value for r in records}, records[0].behaviour
    scores = {name: (level[name] - behaviour) / (level["nutrition"] - behaviour) for name in policies}
    print("correlation of each, then of the mean:", " ".join(f"{one:.2f}" for one in correlations))
    print("score:", ", ".join(f"{name} {score:.2f}" for name, score in scores.items()))
    return {"correlations": correlations, "scores": scores}
