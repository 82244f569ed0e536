"""IQL and TD3+BC against RLlib's and d3rlpy's: `python -m benchmarks peers DATASET [--d3rlpy PYTHON]`.

The same transitions, sizes and (twin) networks for all. RLlib's stock algorithm reads them from Parquet, as it reads
what it has recorded; its pipeline is warm when the clock starts. d3rlpy, run by the interpreter of an environment of
its own, is given whole batches of arrays: its replay buffer makes a Python object a row, and would be slower.
"""

from __future__ import annotations

import gc
import os
import tempfile

import numpy as np

from benchmarks.harness import Comparison, Contender, interleave, options, report
from benchmarks.peers.d3rlpy_process import D3rlpy
from benchmarks.peers.rllib import rllib_iql, write_rows
from benchmarks.speed.training import add_sizes, given_sizes, load_arrays, settings_of
from prefrec_ray.algorithms import IQLConfig, TD3BCConfig
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runtime import start_ray

PAIRS = (
    *((mine, other) for mine in ("IQL", "IQL, bf16") for other in ("RLlib's IQL", "d3rlpy's IQL")),
    ("TD3_BC", "d3rlpy's TD3+BC"),
)


def main() -> None:
    """Prints transitions a second."""
    parser = options(__doc__, dataset=True, repetitions=3)
    add_sizes(parser, updates=20)
    parser.add_argument("--d3rlpy", default=os.environ.get("D3RLPY"), help="python of an environment with d3rlpy")
    arguments = parser.parse_args()
    # RLlib's two workers that make episodes hold a processor each: with two in all its reading would never begin.
    start_ray(num_cpus=4)
    uri, updates, sizes = arguments.dataset, arguments.updates, given_sizes(arguments)
    # Peers are given their rewards with the batch, and so is the product: labels that look ahead are made once.
    own = settings_of(updates, sizes) | {"finetune_reward": False, "reward_horizon": 100}
    configs = {
        "IQL": IQLConfig().training(**own),
        "IQL, bf16": IQLConfig().training(**own, precision="bf16"),
        "TD3_BC": TD3BCConfig().training(**own),
    }
    loaded = load_data(configs["IQL"].offline_data(input_=uri).data_request)
    metadata = PreparedDataset.open(uri).metadata
    widths = (metadata.state_dim, metadata.action_dim)
    with tempfile.TemporaryDirectory() as folder:
        arrays = load_arrays(uri, loaded)
        write_rows(arrays, f"{folder}/rows")
        contenders: dict[str, Contender] = {
            name: config.offline_data(input_=uri, loaded_data=loaded).build_algo().train
            for name, config in configs.items()
        }
        contenders["RLlib's IQL"] = rllib_iql(f"{folder}/rows", *widths, sizes, updates).train
        peers = []
        if arguments.d3rlpy:
            columns = {"obs": arrays.obs, "action": arrays.action, "next_obs": arrays.next_obs}
            np.savez(f"{folder}/arrays.npz", **{name: values.numpy() for name, values in columns.items()})
            peers = [
                D3rlpy(arguments.d3rlpy, method, f"{folder}/arrays.npz", sizes, updates) for method in ("IQL", "TD3_BC")
            ]
            contenders |= {"d3rlpy's IQL": peers[0].run, "d3rlpy's TD3+BC": peers[1].run}
        rates = interleave(contenders, updates * sizes.transitions, arguments.repetitions)
        for peer in peers:
            peer.stop()
    report([Comparison("IQL (twin Q) and TD3+BC, end to end", "transitions/s", rates, PAIRS)], arguments)
    # RLlib's reading ends while Ray is there: at the interpreter's end it would start another, and wait for it.
    contenders.clear()
    gc.collect()
