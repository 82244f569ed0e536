"""python run_on_nodes.py SETTINGS.json-text DATASET RUN: a run on one node, which a second node joins and leaves.

Prints a line of JSON: `learners` of each iteration in the order of its end, `changes` (learners before and after, and
whether every learner had the same state as before, bit for bit), and the `lines` of the run.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from unittest.mock import patch

import numpy as np
import ray
from ray.cluster_utils import Cluster

from prefrec_ray import runtime
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm, on_each_learner
from prefrec_ray.runs import train
from prefrec_ray.runs.settings import TrainSettings

#: Iterations before which the second node joins, in epoch 0, and leaves, in epoch 1.
JOINS, LEAVES = 3, 10
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def arrays_in(state: Any) -> list[np.ndarray]:
    """Return all numbers in nested mappings and sequences: weights, moments, learning rates."""
    if isinstance(state, dict):
        return [array for key in sorted(state, key=str) for array in arrays_in(state[key])]
    if isinstance(state, list | tuple):
        return [array for part in state for array in arrays_in(part)]
    return [] if state is None or isinstance(state, str) else [np.asarray(state)]


def states(algorithm: OfflineAlgorithm) -> list[list[np.ndarray]]:
    """Return weights and moments of each learner."""
    parts = ["rl_module", "optimizer"]
    return [arrays_in(state) for state in on_each_learner(algorithm.learner_group, lambda one: one.get_state(parts))]


def main(settings: TrainSettings, dataset: str, run: str) -> dict[str, Any]:
    """Train, and return the result to print."""
    learners: list[int] = []
    changes: list[tuple[int, int, bool]] = []
    lines: list[str] = []
    nodes: list[Any] = []
    run_iteration, resize = train.run_iteration, OfflineAlgorithm.resize

    def watched(algorithm: OfflineAlgorithm, *arguments: Any) -> Any:
        if algorithm.iteration == JOINS and not nodes:
            nodes.append(cluster.add_node(**NODE))
            cluster.wait_for_nodes(timeout=120)
        if algorithm.iteration == LEAVES and len(nodes) == 1:
            cluster.remove_node(nodes[0], allow_graceful=False)
            nodes.append(None)
        row = run_iteration(algorithm, *arguments)
        learners.append(len(algorithm.learner_group))
        return row

    def compared(algorithm: OfflineAlgorithm, number: int) -> None:
        (before,), now = states(algorithm), len(algorithm.learner_group)
        resize(algorithm, number)
        after = states(algorithm)
        equal = all(len(one) == len(before) and all(map(np.array_equal, one, before)) for one in after)
        changes.append((now, number, equal and len(after) == number and len(before) > 10))

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        os.environ["RAY_ADDRESS"] = cluster.address
        runtime.start_ray()
        with patch.object(train, "run_iteration", watched), patch.object(OfflineAlgorithm, "resize", compared):
            train.start_run(settings, dataset, run, say=lines.append)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return {"learners": learners, "changes": changes, "lines": lines}


if __name__ == "__main__":
    print(json.dumps(main(TrainSettings(**json.loads(sys.argv[1])), *sys.argv[2:])))
