"""One contract for every method: it learns what is known to be best, saves, resumes exactly, and runs on two learners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID
from tiny import best_action, write_dataset

from prefrec_ray.algorithms import METHODS
from prefrec_ray.algorithms.algorithm import OfflineAlgorithm

#: Updates of 256 transitions each, after 30 passes over 600 preferences.
UPDATES = 1200
SETTINGS: dict[str, Any] = {
    "recipe": "paper",
    "task": "depth",
    "gamma": 0.5,
    "tau": 0.01,
    "train_batch_size_per_learner": 256,
    "preference_batch_size": 32,
    "hidden_sizes": (64, 64),
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
    "reward_lr": 1e-3,
    "finetune_reward": False,
    "standardise_reward": True,
    "pretrain_epochs": 30,
    "updates_per_iteration": UPDATES,
    "num_epochs": 1,
}
LEARNERS = [name for name in METHODS if name != "IL"]


@pytest.fixture(scope="module")
def dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("quadratic") / "dataset"
    write_dataset(folder, users=60, requests=150, pairs=600, length=10)
    return str(folder)


def build(dataset: str, method: str, learners: int = 0, **settings: Any) -> OfflineAlgorithm:
    config = METHODS[method].get_default_config()
    config.offline_data(input_=dataset).learners(num_learners=learners).debugging(seed=1)
    if hasattr(config, "value_lr"):
        settings = {"value_lr": 1e-3, **settings} if method in ("PrefRec", "IQL") else settings
    config.training(**{**SETTINGS, **settings})
    return config.build_algo()


def weights(algorithm: OfflineAlgorithm) -> dict[str, np.ndarray]:
    state = algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"]
    return {name: np.array(value) for name, value in state[DEFAULT_MODULE_ID].items()}


def actions_of(algorithm: OfflineAlgorithm, states: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return algorithm.learner_group._learner.net.actor(torch.tensor(states)).numpy()


@pytest.mark.parametrize("method", list(METHODS))
def test_learns_what_is_best(dataset: str, method: str) -> None:
    algorithm = build(dataset, method, num_epochs=UPDATES / 28)
    rows = [algorithm.train()]
    while not rows[-1]["done"]:
        rows.append(algorithm.train())
    states = algorithm.offline_data.probe
    policy = actions_of(algorithm, states)
    algorithm.stop()
    best, behaviour = best_action(states)
    print(method, float(np.linalg.norm(policy - best, axis=1).mean()), float(np.linalg.norm(behaviour - best, axis=1).mean()), float(np.linalg.norm(policy - behaviour, axis=1).mean()), rows[-1]["policy"], rows[-1].get("reward"), rows[-1]["losses"], rows[-1].get("values"))
