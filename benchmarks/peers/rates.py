"""IQL and TD3+BC against RLlib's and d3rlpy's: `python -m benchmarks peers DATASET [--d3rlpy PYTHON]`.

The same transitions, sizes and (twin) networks for all. RLlib's stock algorithm reads them from Parquet, as it reads
what it has recorded; its pipeline is warm when the clock starts. d3rlpy, run by the interpreter of an environment of
its own, is given whole batches of arrays: its replay buffer makes a Python object a row, and would be slower.
"""

from __future__ import annotations

import gc
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Comparison, Contender, compared, interleave
from benchmarks.peers.d3rlpy_side import start_d3rlpy
from benchmarks.peers.rllib import rllib_iql, write_rows
from benchmarks.speed.bare_loop import Sizes
from benchmarks.speed.training import PAPER_SIZES, load_arrays, settings_of
from prefrec_ray.algorithms import IQLConfig, TD3BCConfig
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runtime import start_ray

D3RLPY = Path(os.environ["D3RLPY"]) if os.environ.get("D3RLPY") else None
PAIRS = (
    ("IQL", "RLlib's IQL"),
    ("IQL", "d3rlpy's IQL"),
    ("TD3_BC", "d3rlpy's TD3+BC"),
)


def main(dataset: Path, d3rlpy: Path | None = D3RLPY, updates: int = 20, repetitions: int = 3) -> dict[str, Any]:
    """Prints transitions a second."""
    # RLlib's two workers that make episodes hold a processor each: with two in all its reading would never begin.
    start_ray(num_cpus=4)
    uri, sizes = str(dataset), PAPER_SIZES
    # Peers are given their rewards with the batch, and so is the product: labels that look ahead are made once.
    own = settings_of(updates, sizes) | {"finetune_reward": False, "reward_horizon": 100}
    configs = {
        "IQL": IQLConfig().training(**own),
        "TD3_BC": TD3BCConfig().training(**own),
    }
    loaded = load_data(configs["IQL"].offline_data(input_=uri).data_request)
    metadata = PreparedDataset.open(uri).metadata
    with tempfile.TemporaryDirectory() as folder:
        arrays = load_arrays(uri, loaded)
        write_rows(arrays, f"{folder}/rows")
        contenders: dict[str, Contender] = {
            name: config.offline_data(input_=uri, loaded_data=loaded).build_algo().train
            for name, config in configs.items()
        }
        widths = metadata.state_dim, metadata.action_dim
        contenders["RLlib's IQL"] = rllib_iql(f"{folder}/rows", *widths, sizes, updates).train
        if d3rlpy:
            columns = {"obs": arrays.obs, "action": arrays.action, "next_obs": arrays.next_obs}
            np.savez(f"{folder}/arrays.npz", **{name: values.numpy() for name, values in columns.items()})
            for name, method in (("d3rlpy's IQL", "IQL"), ("d3rlpy's TD3+BC", "TD3_BC")):
                seconds = start_d3rlpy(d3rlpy, d3rlpy_task(method, sizes, updates), f"{folder}/arrays.npz")
                contenders[name] = partial(next, seconds)
        rates = interleave(contenders, updates * sizes.transitions, repetitions)
    result = compared(Comparison("IQL (twin Q) and TD3+BC, end to end", "transitions/s", rates, PAIRS))
    # RLlib's reading ends while Ray is there: at the interpreter's end it would start another, and wait for it.
    contenders.clear()
    gc.collect()
    return result


def d3rlpy_task(method: str, sizes: Sizes, updates: int) -> dict[str, Any]:
    """Return the task for the process of d3rlpy."""
    shared = {name: getattr(sizes, name) for name in ("hidden_sizes", "gamma", "tau", "expectile", "temperature")}
    rates = {"actor_lr": sizes.rates["actor"], "critic_lr": sizes.rates["q"], "bc_alpha": sizes.bc_alpha}
    own = {"method": method, "seed": 0, "batch_size": sizes.transitions, "updates": updates}
    return {**shared, **rates, **own, "threads": torch.get_num_threads()}
