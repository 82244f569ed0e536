"""d3rlpy's IQL and TD3+BC for peers.py: `D3rlpy` starts this very file by the interpreter of d3rlpy's environment.

There it reads the arrays, says "ready", and for every line on its input does some updates and answers their seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any


def write_arrays(arrays: Any, file: str) -> None:
    """The transitions of `arrays` as `D3rlpy` reads them."""
    import numpy as np

    columns = {"obs": arrays.obs, "action": arrays.action, "next_obs": arrays.next_obs}
    np.savez(file, **{name: values.numpy() for name, values in columns.items()})


class D3rlpy:
    """The other process. `method` is one that fixed_points_d3rlpy.py knows; `file` is of `write_arrays`."""

    def __init__(self, python: str, method: str, file: str, sizes: Any, updates: int) -> None:
        import torch

        task = {
            "method": method,
            "hidden_sizes": sizes.hidden_sizes,
            "batch_size": sizes.transitions,
            "gamma": sizes.gamma,
            "tau": sizes.tau,
            "expectile": sizes.expectile,
            "temperature": sizes.temperature,
            "bc_alpha": sizes.bc_alpha,
            "actor_lr": sizes.rates["actor"],
            "critic_lr": sizes.rates["q"],
            "updates": updates,
            "threads": torch.get_num_threads(),
        }
        command = [python, __file__, json.dumps(task), file]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer("ready")

    def run(self) -> float:
        """Some updates; their seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._answer("seconds"))

    def stop(self) -> None:
        """Ends it."""
        self._process.communicate()

    def _answer(self, word: str) -> str:
        # d3rlpy logs to the same output.
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(f"{word}:"):
                return line.partition(":")[2]
        raise RuntimeError(f"d3rlpy's process ended with status {self._process.wait()}")


def main(task: dict[str, Any], file: str) -> None:
    """In d3rlpy's environment."""
    import numpy as np
    import torch
    from fixed_points_d3rlpy import batch, make_config

    torch.set_num_threads(task["threads"])
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["reward"] = np.zeros(len(arrays["obs"]), dtype=np.float32)
    algorithm = make_config(task).create(device="cpu:0")
    algorithm.create_impl((arrays["obs"].shape[1],), arrays["action"].shape[1])
    generator = np.random.default_rng(0)
    print("ready:", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(task["updates"]):
            algorithm.update(batch(arrays, generator.integers(0, len(arrays["obs"]), task["batch_size"])))
        print(f"seconds:{time.perf_counter() - begin}", flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
