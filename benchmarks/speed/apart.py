"""Bare loops in processes of their own: nothing that the product does to its process may help or hinder them."""

from __future__ import annotations

from collections.abc import Callable

import ray
import torch

from benchmarks.harness import Contender
from benchmarks.speed.bare_loop import (
    Arrays,
    Networks,
    Sizes,
    plain_iql,
    plain_prefrec,
    plain_reward,
    tuned_prefrec,
    tuned_reward,
)
from prefrec_ray.algorithms.feed.load import LoadedData
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runtime.memory import keep_freed_memory

#: How a loop is made, and whether it has the product's levers.
LOOPS: dict[str, tuple[Callable[[Arrays, Sizes], Callable[[], None]], bool]] = {
    "tuned bare PrefRec": (lambda arrays, sizes: tuned_prefrec(arrays, sizes, seed=0), True),
    "plain bare PrefRec": (lambda arrays, sizes: plain_prefrec(arrays, sizes, seed=0), False),
    "plain bare IQL": (lambda arrays, sizes: plain_iql(arrays, sizes, seed=0), False),
    "tuned bare reward": (lambda arrays, sizes: tuned_reward(Networks(arrays, sizes, False), arrays, sizes, 0), True),
    "plain bare reward": (lambda arrays, sizes: plain_reward(Networks(arrays, sizes, False), arrays, sizes, 0), False),
}


# Only one contender runs at a time: it has all cores, whatever Ray counts.
@ray.remote(num_cpus=0)
class _BareLoop:
    def __init__(self, name: str, uri: str, preferences: PreferenceBuffer, sizes: Sizes, threads: int) -> None:
        make, tuned = LOOPS[name]
        if tuned:
            keep_freed_memory()
        torch.set_num_threads(threads)
        self._update = make(Arrays.load(PreparedDataset.open(uri), preferences), sizes)

    def run(self, updates: int) -> None:
        """`updates` updates."""
        for _ in range(updates):
            self._update()


def bare(name: str, uri: str, loaded: LoadedData, sizes: Sizes, updates: int) -> Contender:
    """`updates` updates a call of one of LOOPS on the data set `uri`, with as many threads as this process has."""
    loop = _BareLoop.remote(name, uri, loaded.preferences, sizes, torch.get_num_threads())
    return lambda: ray.get(loop.run.remote(updates))
