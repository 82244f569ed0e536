"""A model of a step with N learners, from measurements on two cores: `python -m benchmarks step_time DATASET`.

With a share f = 1/N of the paper's step (4,096 transitions and 256 pairs) a learner computes for c0 + c1 f seconds, its
batch included; the least squares line is through f = 1, 1/2 and 1/8, and f = 1/4 is held out. The gradients of the four
networks are then averaged, one flat buffer each: by ring, 2 (N - 1) messages of 1/N of the buffer. Latency l and
bandwidth b are those of gloo between two processes here; a network between hosts has others (`--latency-us`, `--gbit`).
Every learner has one thread. The whole is checked against two learners, measured.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from scipy.optimize import nnls
from torch import multiprocessing

from benchmarks.harness import Contender, interleave, markdown
from benchmarks.speed.training import PAPER, prefrec_config, share_of_paper
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runtime import start_ray

#: Of an epoch that is planned for.
TRANSITIONS = 2.5e9
FITTED, HELD_OUT = (1.0, 0.5, 0.125), 0.25
#: Floats of the buffers from which latency and bandwidth are fitted; those of the paper's networks lie between.
BUFFERS = (16_384, 65_536, 262_144, 1_048_576)


@dataclass(frozen=True)
class Model:
    """Seconds of a step: `fixed` + `work` / N of compute, and what averaging `buffers` (bytes each) takes."""

    fixed: float
    work: float
    latency: float
    bandwidth: float  # bytes a second
    buffers: tuple[int, ...]

    def compute(self, share: float) -> float:
        """Of a learner that has this share of the paper's step."""
        return self.fixed + self.work * share

    def averaging(self, learners: int) -> float:
        """Of all gradients over the learners, by ring."""
        hops = 2 * (learners - 1)
        return sum(hops * (self.latency + size / learners / self.bandwidth) for size in self.buffers)

    def step(self, learners: int, share: float) -> float:
        """Of all learners, each with this share of the paper's step."""
        return self.compute(share) + self.averaging(learners)


def buffer_sizes(states: int, actions: int) -> tuple[int, ...]:
    """Bytes of the gradients of reward, V, Q and actor."""
    hidden = PAPER["hidden_sizes"]
    ends = ((states + actions, 1), (states, 1), (states + actions, 1), (states, actions))
    return tuple(4 * sum(a * b + b for a, b in pairwise((first, *hidden, last))) for first, last in ends)


def averaging_times(rank: int, port: int, out: Any) -> None:
    """In each of two processes: the median seconds of an all-reduce of every one of BUFFERS."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for floats in BUFFERS:
        buffer, seconds = torch.ones(floats), []
        for _ in range(40):
            dist.barrier()
            begin = time.perf_counter()
            dist.all_reduce(buffer)
            seconds.append(time.perf_counter() - begin)
        if rank == 0:
            out.put((floats, statistics.median(seconds[10:])))
    dist.destroy_process_group()


def fit_network() -> tuple[float, float]:
    """Latency of a message, and bytes a second: a ring of two makes two messages of half a buffer."""
    context = multiprocessing.get_context("spawn")
    out = context.SimpleQueue()
    port = 20_000 + os.getpid() % 20_000
    processes = [context.Process(target=averaging_times, args=(rank, port, out)) for rank in range(2)]
    for process in processes:
        process.start()
    measured = np.array([out.get() for _ in BUFFERS])
    for process in processes:
        process.join()
    slope, constant = np.polyfit(4 * measured[:, 0], measured[:, 1], 1)
    return max(constant, 1e-6) / 2, 1 / slope


def step_of(config: Any, updates: int) -> Contender:
    """An iteration of a config; the seconds of its updates, without what is looked at after them."""
    algorithm = config.build_algo()

    def run() -> float:
        return updates * algorithm.offline_data.batch_size / float(algorithm.train()["transitions_per_second"])

    return run


def measure(uri: str, updates: int, repetitions: int) -> dict[str, float]:
    """Seconds of a step by share, and of two learners that share one."""
    loaded = load_data(prefrec_config(uri, updates, share_of_paper(1.0)).data_request)
    configs = {str(f): prefrec_config(uri, updates, share_of_paper(f)) for f in (*FITTED, HELD_OUT)}
    two = prefrec_config(uri, updates, share_of_paper(0.5))  # a batch for each learner; the pairs are those of all
    two.training(preference_batch_size=PAPER["preference_batch_size"])
    configs["two learners"] = two.learners(num_learners=2, num_cpus_per_learner=1)
    contenders = {name: step_of(c.offline_data(loaded_data=loaded), updates) for name, c in configs.items()}
    rates = interleave(contenders, updates, repetitions)
    return {name: 1 / statistics.median(values) for name, values in rates.items()}


def main(
    dataset: Path, updates: int = 4, repetitions: int = 3, latency_us: float | None = None, gbit: float | None = None
) -> dict[str, Any]:
    """Prints the model, how well it predicts what it has not seen, and what more learners would take."""
    latency, bandwidth = fit_network()
    torch.set_num_threads(1)
    start_ray(num_cpus=3)
    seconds = measure(str(dataset), updates, repetitions)
    # Neither can be below zero, whatever else the machine did meanwhile.
    (fixed, work), _ = nnls(np.array([[1.0, share] for share in FITTED]), [seconds[str(share)] for share in FITTED])
    metadata = PreparedDataset.open(str(dataset)).metadata
    model = Model(float(fixed), float(work), latency, bandwidth, buffer_sizes(metadata.state_dim, metadata.action_dim))
    plan = replace(
        model,
        latency=latency if latency_us is None else latency_us * 1e-6,
        bandwidth=bandwidth if gbit is None else gbit * 1e9 / 8,
    )
    print(f"compute: {fixed * 1e3:.1f} ms + {work * 1e3:.0f} ms x share of the paper's step")
    print(
        f"averaging {sum(model.buffers) / 1e6:.2f} MB in {len(model.buffers)} buffers: "
        f"{latency * 1e6:.0f} us a message, {bandwidth / 1e9:.2f} GB/s"
    )
    held_out = {str(HELD_OUT): model.compute(HELD_OUT), "two learners": model.step(2, 0.5)}
    for name, predicted in held_out.items():
        print(f"  held out, {name:14} {predicted * 1e3:7.0f} ms by the model, {seconds[name] * 1e3:7.0f} ms measured")
    rows = [plan_row(plan, learners) for learners in (1, 2, 4, 8, 16, 32, 64)]
    print("fixed: one batch of 4,096 for all; own: 512 transitions and 32 pairs for each; rates in transitions/s")
    print(markdown(rows[0], ([f"{value:,.4g}" for value in row.values()] for row in rows)))
    return {"seconds": seconds, "model": asdict(model), "plan": asdict(plan), "rows": rows}


def plan_row(model: Model, learners: int) -> dict[str, float]:
    """The paper's batch shared by all learners, and an eighth of it for each: rates, shares of the ideal, hours."""
    batch, eighth = PAPER["train_batch_size_per_learner"], 0.125
    shared = batch / model.step(learners, 1 / learners)
    own = learners * eighth * batch / model.step(learners, eighth)
    return {
        "learners": learners,
        "fixed_rate": shared,
        "fixed_share": shared / (learners * batch / model.step(1, 1.0)),
        "own_rate": own,
        "own_share": own / (learners * eighth * batch / model.step(1, eighth)),
        "hours": TRANSITIONS / own / 3600,
    }
