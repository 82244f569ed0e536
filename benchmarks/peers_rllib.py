"""RLlib's stock IQL on its own Parquet path, for peers.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from benchmarks.bare_loop import Arrays, Sizes

_ROWS_OF_A_FILE = 25_000


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
    obs = gym.spaces.Box(-np.inf, np.inf, (states,), np.float32)
    action = gym.spaces.Box(-1.0, 1.0, (actions,), np.float32)
    first, *rest = sizes.hidden_sizes
    config = (
        IQLConfig()
        .environment(observation_space=obs, action_space=action)
        .offline_data(
            input_=[folder],
            input_read_method="read_parquet",
            dataset_num_iters_per_learner=updates,
            # All rows as Python objects would not fit: they are made as they are needed, in every pass.
            materialize_data=False,
            materialize_mapped_data=False,
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[first], fcnet_activation="relu", head_fcnet_hiddens=rest, head_fcnet_activation="relu"
            )
        )
        .training(
            twin_q=True,
            beta=1.0,
            expectile=sizes.expectile,
            gamma=sizes.gamma,
            tau=sizes.tau,
            train_batch_size_per_learner=sizes.transitions,
        )
        .env_runners(num_env_runners=0, create_local_env_runner=False)
        .debugging(log_level="ERROR")
    )
    return config.build_algo()
