"""One training by d3rlpy for fixed_points.py, run by the interpreter of d3rlpy's own environment.

python fixed_points_d3rlpy.py TASK.json-text ARRAYS.npz FOUND.npz
"""

import json
import sys

import d3rlpy
import numpy as np
import torch
from d3rlpy.algos import BCQConfig, IQLConfig, TD3PlusBCConfig
from d3rlpy.dataset import TransitionMiniBatch
from d3rlpy.models.encoders import VectorEncoderFactory


def main(task: dict, arrays: dict, output: str) -> None:
    torch.set_num_threads(1)
    d3rlpy.seed(task["seed"])
    algorithm = make_config(task).create(device="cpu:0")
    algorithm.create_impl((arrays["obs"].shape[1],), arrays["action"].shape[1])
    generator = np.random.default_rng(task["seed"])
    order, size = np.empty(0, dtype=np.int64), task["batch_size"]
    for _ in range(task["updates"]):
        if len(order) < size:
            order = generator.permutation(len(arrays["obs"]))
        rows, order = order[:size], order[size:]
        algorithm.update(batch(arrays, rows))
    policy = algorithm.predict(arrays["held_out"])
    np.savez(
        output,
        policy=policy,
        q_policy=algorithm.predict_value(arrays["held_out"], policy),
        q_logged=algorithm.predict_value(arrays["obs"], arrays["action"]),
    )


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
    with np.load(sys.argv[2]) as stored:
        main(json.loads(sys.argv[1]), dict(stored), sys.argv[3])
