"""d3rlpy in a process of its own environment, for rates.py and fixed_points.py: both ends of the connection.

The interpreter of the other environment runs this file, which imports d3rlpy in its functions, and no other module:

    python d3rlpy_side.py TASK.json-text ARRAYS.npz TRAINED.npz    trains once and writes what came of it
    python d3rlpy_side.py TASK.json-text ARRAYS.npz                some updates for every line it reads
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


def train_d3rlpy(python: Path, task: dict[str, Any], arrays: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """One training on `arrays`: its policy on held-out states, and Q."""
    np.savez(folder / "arrays.npz", **arrays)
    command = [python, __file__, json.dumps(task), str(folder / "arrays.npz"), str(folder / "trained.npz")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(folder / "trained.npz") as trained:
        return dict(trained)


def start_d3rlpy(python: Path, task: dict[str, Any], file: str) -> Iterator[float]:
    """The seconds of `updates` updates at every `next`, in one process. `file` has obs, action and next_obs."""
    process = subprocess.Popen(
        [python, __file__, json.dumps(task), file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while True:
            process.stdin.write("go\n")
            process.stdin.flush()
            # d3rlpy logs to the same output.
            yield next(float(line.partition(":")[2]) for line in process.stdout if line.startswith("seconds:"))
    finally:
        process.communicate()


def main(task: dict[str, Any], file: str, output: str | None = None) -> None:
    """Run the task in the other environment."""
    import d3rlpy

    torch.set_num_threads(task["threads"])
    d3rlpy.seed(task["seed"])
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays.setdefault("reward", np.zeros(len(arrays["obs"]), dtype=np.float32))
    algorithm = make_config(task).create(device="cpu:0")
    algorithm.create_impl((arrays["obs"].shape[1],), arrays["action"].shape[1])
    if output:
        np.savez(output, **train(algorithm, task, arrays))
    else:
        time_updates(algorithm, task, arrays)


def train(algorithm: Any, task: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`updates` updates; then the policy, and Q of it and of the log."""
    for rows in epochs(len(arrays["obs"]), task["batch_size"], task["updates"], task["seed"]):
        algorithm.update(batch(arrays, rows))
    return policy_and_q(arrays, algorithm.predict(arrays["held_out"]), algorithm.predict_value)


def policy_and_q(
    arrays: dict[str, np.ndarray], policy: np.ndarray, q: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """The policy's actions on held-out states, and `q` of them and of the logged rows."""
    return {"policy": policy, "q_policy": q(arrays["held_out"], policy), "q_logged": q(arrays["obs"], arrays["action"])}


def epochs(count: int, size: int, updates: int, seed: int) -> Iterator[np.ndarray]:
    """Rows [size] of `updates` batches out of `count` rows, each epoch in its own order."""
    generator = np.random.default_rng(seed)
    order = np.empty(0, dtype=np.int64)
    for _ in range(updates):
        if len(order) < size:
            order = generator.permutation(count)
        yield order[:size]
        order = order[size:]


def time_updates(algorithm: Any, task: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Seconds of `updates` updates on whole batches, for every line of input."""
    generator = np.random.default_rng(0)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(task["updates"]):
            algorithm.update(batch(arrays, generator.integers(0, len(arrays["obs"]), task["batch_size"])))
        print(f"seconds:{time.perf_counter() - begin}", flush=True)


def make_config(task: dict[str, Any]) -> Any:
    """d3rlpy's words for the shared settings; all else is its default, which is each paper's."""
    from d3rlpy.algos import BCQConfig, IQLConfig, TD3PlusBCConfig
    from d3rlpy.models.encoders import VectorEncoderFactory

    encoder = VectorEncoderFactory(hidden_units=list(task["hidden_sizes"]))
    shared = {
        "batch_size": task["batch_size"],
        "gamma": task["gamma"],
        "tau": task["tau"],
        "actor_learning_rate": task["actor_lr"],
        "critic_learning_rate": task["critic_lr"],
        "actor_encoder_factory": encoder,
        "critic_encoder_factory": encoder,
    }
    if task["method"] == "IQL":
        own = {"expectile": task["expectile"], "weight_temp": task["temperature"], "value_encoder_factory": encoder}
        return IQLConfig(**shared, **own)
    if task["method"] == "TD3_BC":
        return TD3PlusBCConfig(**shared, alpha=task["bc_alpha"])
    own = {"imitator_learning_rate": task["critic_lr"], "imitator_encoder_factory": encoder}
    return BCQConfig(**shared, **own, n_action_samples=task["candidates"])


def batch(arrays: dict[str, np.ndarray], rows: np.ndarray) -> Any:
    """Rows of the arrays; histories go on, so that nothing is terminal."""
    from d3rlpy.dataset import TransitionMiniBatch

    return TransitionMiniBatch(
        observations=arrays["obs"][rows],
        actions=arrays["action"][rows],
        rewards=arrays["reward"][rows, None],
        next_observations=arrays["next_obs"][rows],
        next_actions=np.zeros_like(arrays["action"][rows]),
        terminals=np.zeros((len(rows), 1), dtype=np.float32),
        intervals=np.ones((len(rows), 1), dtype=np.float32),
        transitions=[],
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), *sys.argv[2:])
