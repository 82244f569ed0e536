"""d3rlpy in a process of an environment of its own: what it is told, and what it answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.bare_loop import Sizes

SCRIPT = Path(__file__).with_name("d3rlpy_side.py")


def train_d3rlpy(python: str, task: dict[str, Any], arrays: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """One training on `arrays`: its policy on held-out states, and Q."""
    np.savez(folder / "arrays.npz", **arrays)
    command = [python, str(SCRIPT), json.dumps(task), str(folder / "arrays.npz"), str(folder / "trained.npz")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(folder / "trained.npz") as trained:
        return dict(trained)


class D3rlpy:
    """The other process. `method` is one that d3rlpy_side.py knows; `file` has obs, action and next_obs."""

    def __init__(self, python: str, method: str, file: str, sizes: Sizes, updates: int) -> None:
        task = {
            "method": method,
            "seed": 0,
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
        command = [python, str(SCRIPT), json.dumps(task), file]
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
