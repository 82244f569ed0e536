"""RLlib's own IQL: its whole algorithm on its Parquet path for rates.py, only its learner for fixed_points.py.

Its networks are its own too: they differ from ours and d3rlpy's in shape (its Q encodes state and action apart), and
its policy is squashed by tanh.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from benchmarks.peers.d3rlpy_side import epochs, policy_and_q
from benchmarks.speed.bare_loop import Arrays, Sizes

_ROWS_OF_A_FILE = 25_000
_MODULE = "default_policy"


def config_of(states: int, actions: int, hidden_sizes: tuple[int, ...], **training: Any) -> tuple[IQLConfig, Any]:
    """IQL with twin Q, and its spaces."""
    obs = gym.spaces.Box(-np.inf, np.inf, (states,), np.float32)
    action = gym.spaces.Box(-1.0, 1.0, (actions,), np.float32)
    first, *rest = hidden_sizes
    model = DefaultModelConfig(
        fcnet_hiddens=[first], fcnet_activation="relu", head_fcnet_hiddens=rest, head_fcnet_activation="relu"
    )
    config = IQLConfig().environment(observation_space=obs, action_space=action).rl_module(model_config=model)
    return config.training(twin_q=True, beta=1.0, **training), (obs, action)


def write_rows(arrays: Arrays, folder: str) -> None:
    """The transitions as RLlib's columns: one-step episodes, as in rows that others have recorded."""
    Path(folder).mkdir()
    rows = len(arrays.obs)
    for number, start in enumerate(range(0, rows, _ROWS_OF_A_FILE)):
        part = slice(start, start + _ROWS_OF_A_FILE)
        length = len(arrays.obs[part])
        columns = {"obs": arrays.obs, "actions": arrays.action, "new_obs": arrays.next_obs}
        table = {name: pa.array(list(values[part].numpy())) for name, values in columns.items()}
        table["rewards"] = pa.array(np.zeros(length, dtype=np.float32))
        table["eps_id"] = pa.array(np.arange(start, start + length).astype(str))
        for name in ("terminateds", "truncateds"):
            table[name] = pa.array(np.zeros(length, dtype=bool))
        pq.write_table(pa.table(table), f"{folder}/part-{number:05d}.parquet", compression="none")


def rllib_iql(folder: str, states: int, actions: int, sizes: Sizes, updates: int) -> Any:
    """Its algorithm; an iteration is `updates` updates."""
    config, _ = config_of(
        states,
        actions,
        sizes.hidden_sizes,
        expectile=sizes.expectile,
        gamma=sizes.gamma,
        tau=sizes.tau,
        train_batch_size_per_learner=sizes.transitions,
    )
    config.offline_data(
        input_=[folder],
        input_read_method="read_parquet",
        dataset_num_iters_per_learner=updates,
        # All rows as Python objects would not fit: they are made as they are needed, in every pass.
        materialize_data=False,
        materialize_mapped_data=False,
    )
    config.env_runners(num_env_runners=0, create_local_env_runner=False).debugging(log_level="ERROR")
    return config.build_algo()


def train_rllib(arrays: dict[str, np.ndarray], settings: dict[str, Any], seed: int, updates: int) -> dict[str, Any]:
    """Policy on held-out states, Q (mean of the twins) on them and on the logged rows."""
    torch.manual_seed(seed)
    learner = make_learner(arrays, settings, seed)
    size = settings["batch_size"]
    for update, rows in enumerate(epochs(len(arrays["obs"]), size, updates, seed)):
        learner.update(batch=batch(arrays, rows), timesteps={"num_env_steps_sampled_lifetime": (update + 1) * size})
    module = learner.module[_MODULE]

    def q(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        inputs = {"obs": torch.tensor(states), "actions": torch.tensor(actions)}
        twins = ((module.qf_encoder, module.qf), (module.qf_twin_encoder, module.qf_twin))
        values = [head(encoder(inputs)[ENCODER_OUT]) for encoder, head in twins]
        return torch.stack(values).mean(0).squeeze(-1).numpy()

    with torch.no_grad():
        logits = module.forward_inference({"obs": torch.tensor(arrays["held_out"])})["action_dist_inputs"]
        distribution = module.get_inference_action_dist_cls().from_logits(logits)
        return policy_and_q(arrays, distribution.to_deterministic().sample().numpy(), q)


def make_learner(arrays: dict[str, np.ndarray], settings: dict[str, Any], seed: int) -> Any:
    """RLlib's learner with the shared settings; its offline data path is left out."""
    config, spaces = config_of(
        arrays["obs"].shape[1],
        arrays["action"].shape[1],
        settings["hidden_sizes"],
        target_network_update_freq=0,  # every update
        value_lr=settings["critic_lr"],
        **{name: settings[name] for name in ("actor_lr", "critic_lr", "expectile", "tau", "gamma")},
    )
    learner = config.debugging(seed=seed).build_learner(env=None, spaces={_MODULE: spaces})
    learner.build()
    # The config's own check refuses a temperature above 1 (the paper's is 3), so it is set on the learner.
    learner.temperature[_MODULE] = torch.tensor([settings["temperature"]])
    return learner


def batch(arrays: dict[str, np.ndarray], rows: np.ndarray) -> MultiAgentBatch:
    """Rows of the arrays; histories go on, so that nothing is terminal."""
    columns = {
        "obs": arrays["obs"][rows],
        "actions": arrays["action"][rows],
        "new_obs": arrays["next_obs"][rows],
        "rewards": arrays["reward"][rows].astype(np.float32),
        "terminateds": np.zeros(len(rows), dtype=bool),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in columns.items()}
    return MultiAgentBatch({_MODULE: SampleBatch(tensors)}, env_steps=len(rows))
