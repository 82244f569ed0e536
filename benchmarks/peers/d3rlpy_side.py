"""What runs in d3rlpy's own environment, by its interpreter, for rates.py and fixed_points.py.

python d3rlpy_side.py TASK.json-text ARRAYS.npz FOUND.npz    trains once and writes what came of it
python d3rlpy_side.py TASK.json-text ARRAYS.npz              says "ready", then some updates for every line it reads
"""

import json
import sys
import time

import d3rlpy
import numpy as np
import torch
from d3rlpy.algos import BCQConfig, IQLConfig, TD3PlusBCConfig
from d3rlpy.dataset import TransitionMiniBatch
from d3rlpy.models.encoders import VectorEncoderFactory


def main(task: dict, file: str, output: str | None = None) -> None:
    torch.set_num_threads(task["threads"])
    d3rlpy.seed(task["seed"])
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays.setdefault("reward", np.zeros(len(arrays["obs"]), dtype=np.float32))
    algorithm = make_config(task).create(device="cpu:0")
    algorithm.create_impl((arrays["obs"].shape[1],), arrays["action"].shape[1])
    (train if output else answer)(algorithm, task, arrays, output)


def train(algorithm: d3rlpy.base.LearnableBase, task: dict, arrays: dict, output: str) -> None:
    """`updates` updates, each epoch in its own order; then the policy, and Q of it and of the log."""
    generator = np.random.default_rng(task["seed"])
    order, size = np.empty(0, dtype=np.int64), task["batch_size"]
    for _ in range(task["updates"]):
        if len(order) < size:
            order = generator.permutation(len(arrays["obs"]))
        rows, order = order[:size], order[size:]
        algorithm.update(batch(arrays, rows))
    policy = algorithm.predict(arrays["held_out"])
    q_policy = algorithm.predict_value(arrays["held_out"], policy)
    q_logged = algorithm.predict_value(arrays["obs"], arrays["action"])
    np.savez(output, policy=policy, q_policy=q_policy, q_logged=q_logged)


def answer(algorithm: d3rlpy.base.LearnableBase, task: dict, arrays: dict, output: None) -> None:
    """Seconds of `updates` updates on whole batches, for every line of input."""
    generator = np.random.default_rng(0)
    print("ready:", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(task["updates"]):
            algorithm.update(batch(arrays, generator.integers(0, len(arrays["obs"]), task["batch_size"])))
        print(f"seconds:{time.perf_counter() - begin}", flush=True)


def make_config(task: dict) -> d3rlpy.base.LearnableConfig:
    """d3rlpy's words for the shared settings; all else is its default, which is each paper's."""
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


def batch(arrays: dict, rows: np.ndarray) -> TransitionMiniBatch:
    """Rows of the arrays; histories go on, so that nothing is terminal."""
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
