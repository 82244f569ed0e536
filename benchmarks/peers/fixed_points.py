"""Do IQL, TD3_BC and BCQ end where d3rlpy's IQL, TD3+BC and BCQ and RLlib's own IQL end, on the same arrays?

    python -m benchmarks fixed_points --d3rlpy PYTHON [--methods IQL TD3_BC BCQ] [--seeds 0 1 2]

PYTHON is the interpreter of an environment of its own with d3rlpy 2.8. The task is the tests' quadratic one with its
reward column, whose best action is known: reward -|a - best(s)|^2, states independent of actions. Same transitions,
networks, rates, batch size and number of updates; weights and order of the batches are each library's own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import one_thread
from benchmarks.peers.d3rlpy_side import policy_and_q, train_d3rlpy
from benchmarks.peers.rllib import train_rllib
from prefrec_ray.algorithms import METHODS
from prefrec_ray.algorithms.base.algorithm import on_first_learner
from prefrec_ray.bench.results import markdown
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.runtime import start_ray

SETTINGS: dict[str, Any] = {
    "gamma": 0.5,
    "tau": 0.01,
    "hidden_sizes": (64, 64),
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
    "batch_size": 256,
    "expectile": 0.7,
    "temperature": 3.0,
    "bc_alpha": 2.5,
    "candidates": 10,
}
UPDATES = 2000
D3RLPY = Path(os.environ.get("D3RLPY") or "python")
OWN = {"IQL": ("expectile", "temperature"), "TD3_BC": ("bc_alpha",), "BCQ": ("candidates",)}
FIGURES = ("distance_to_best", "distance_to_behaviour", "q_logged", "q_policy")


def main(
    d3rlpy: Path = D3RLPY,
    methods: Sequence[str] = tuple(OWN),
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
    """Prints a line a training, and a table in Markdown."""
    one_thread()
    start_ray(num_cpus=2)
    # The task is in the folder of the tests that use it.
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from tiny import best_action, write_dataset

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        write_dataset(dataset, users=60, requests=150, pairs=100, length=2)
        arrays = read_arrays(PreparedDataset.open(str(dataset)))
        truth = dict(zip(("best", "behaviour"), best_action(arrays["held_out"]), strict=True))
        for method, seed in product(methods, seeds):
            task = {**SETTINGS, "method": method, "seed": seed, "updates": UPDATES, "threads": 1}
            libraries = {
                "prefrec_ray": train_ours(method, str(dataset), arrays, seed),
                "d3rlpy": train_d3rlpy(d3rlpy, task, arrays, Path(folder)),
            }
            if method == "IQL":
                libraries["RLlib"] = train_rllib(arrays, SETTINGS, seed, UPDATES)
            for library, trained in libraries.items():
                rows.append({"method": method, "library": library, "seed": seed, **figures(trained, truth)})
                print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    return {"updates": UPDATES, "shared": SETTINGS, "runs": rows}


def read_arrays(dataset: PreparedDataset) -> dict[str, np.ndarray]:
    """All transitions, and the states of validation users."""
    parts = [dataset.read(file) for file in dataset.files("transitions")]
    columns = {name: np.concatenate([tensor(part[name]) for part in parts]) for name in ("obs", "action", "next_obs")}
    rewards = np.concatenate([part["reward"].to_numpy() for part in parts])
    states = [tensor(dataset.read(file)["state"]) for file in dataset.files("requests", "validation")]
    return {**columns, "reward": rewards, "held_out": np.concatenate(states)}


def train_ours(method: str, dataset: str, arrays: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Policy on held-out states, Q (mean of the twins) on them and on the logged rows."""
    config = METHODS[method].get_default_config().offline_data(input_=dataset).debugging(seed=seed)
    shared = ("gamma", "tau", "hidden_sizes", "actor_lr", "critic_lr")
    values = {name: SETTINGS[name] for name in (*shared, *OWN[method])}
    if method == "IQL":
        values["value_lr"] = SETTINGS["critic_lr"]
    config.training(
        task="depth",
        reward_source="column",
        recipe="paper",
        train_batch_size_per_learner=SETTINGS["batch_size"],
        updates_per_iteration=UPDATES,
        num_epochs=UPDATES,
        **values,
    )
    algorithm = config.build_algo()
    algorithm.train()
    net = on_first_learner(algorithm.learner_group, lambda learner: learner.net)

    def q(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        pair = torch.tensor(states), torch.tensor(actions)
        return torch.stack([function(*pair) for function in net.q]).mean(0).numpy()

    with torch.no_grad():
        trained = policy_and_q(arrays, net.actor(torch.tensor(arrays["held_out"])).numpy(), q)
    algorithm.stop()
    return trained


def figures(trained: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean distances of the policy, and mean Q."""
    values = {f"distance_to_{name}": np.linalg.norm(trained["policy"] - at, axis=1) for name, at in truth.items()}
    return {name: round(float(np.mean({**trained, **values}[name])), 4) for name in FIGURES}


def table(rows: list[dict[str, Any]]) -> str:
    """Mean over seeds, and (smallest to largest), in Markdown."""
    lines = []
    for method, library in dict.fromkeys((row["method"], row["library"]) for row in rows):
        runs = [row for row in rows if (row["method"], row["library"]) == (method, library)]
        columns = [[run[name] for run in runs] for name in FIGURES]
        lines.append([method, library, *(f"{np.mean(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in columns)])
    return markdown(["method", "library", *FIGURES], lines)
