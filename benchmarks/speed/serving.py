"""The serving rule on a large catalogue: the time of one user's request.

    python -m benchmarks serving [--items 1000000] [--repetitions 500]

A policy of random networks, 245 numbers a state, k = 10, 50 items left out, one thread: candidates from the index, and
draws from the whole catalogue.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.harness import markdown
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.expected_feedback import HIDDEN, ExpectedFeedback
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.features import CATEGORIES

WIDTHS = {"128 x 128": (128, 128), "256 x 256 x 256": (256, 256, 256)}
#: By name the rule, and whether expected answers read Q.
RULES = {
    "64 nearest": (ServingSettings(candidates="nearest", count=64), False),
    "whole catalogue": (ServingSettings(candidates="catalogue"), False),
    "whole catalogue, read by answers": (ServingSettings(candidates="catalogue"), True),
}
K, LEFT_OUT = 10, 50


def main(items: int = 1_000_000, repetitions: int = 500) -> dict[str, Any]:
    """Prints p50 and p99 in ms."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    state = StateDefinition(FEEDBACK, CATEGORIES)
    table = ItemTable(np.arange(items), rng.uniform(-1, 1, (items, state.action_dim)))
    states = rng.normal(size=(repetitions, state.width)).astype(np.float32)
    seen = rng.integers(0, items, (repetitions, LEFT_OUT))
    milliseconds: dict[str, dict[str, float]] = {}
    for width, hidden in WIDTHS.items():
        actor = DeterministicActor(mlp(state.width, hidden, 8), -np.ones(8, np.float32), np.ones(8, np.float32))
        answers = ExpectedFeedback.random(state.width, 8, HIDDEN, state.embedding_parts(), len(FEEDBACK))
        for rule, (serving, read) in RULES.items():
            critic = Critic([QFunction.random(state.width, 8, hidden, ())])
            if read:
                critic = replace(critic, answers=answers, worth=np.ones(len(FEEDBACK), np.float32))
            normaliser = Normaliser(np.zeros(state.width), np.ones(state.width))
            policy = Policy(actor.requires_grad_(False), state, normaliser, table, serving, critic=critic)
            policy.serve(states[:1], K, [seen[0]], seed=0)  # makes the index, or the cells
            times = []
            for row in range(repetitions):
                begin = time.perf_counter()
                policy.serve(states[row : row + 1], K, [seen[row]], seed=row)
                times.append(1000.0 * (time.perf_counter() - begin))
            p50, p99 = np.quantile(times, [0.5, 0.99])
            milliseconds[f"{width}, {rule}"] = {"p50_ms": float(p50), "p99_ms": float(p99)}
    rows = [[name, f"{t['p50_ms']:.2f}", f"{t['p99_ms']:.2f}"] for name, t in milliseconds.items()]
    print(markdown((f"{items:,} items, k = {K}", "p50, ms", "p99, ms"), rows))
    return {"milliseconds": milliseconds}
