"""Do IQL, TD3_BC and BCQ end where d3rlpy's IQL, TD3+BC and BCQ and RLlib's own IQL end, on the same arrays?

    python -m benchmarks.fixed_points --d3rlpy PYTHON [--methods IQL TD3_BC BCQ] [--seeds 0 1 2] [--output FILE]

PYTHON is the interpreter of an environment of its own with d3rlpy 2.8. The task is the tests' quadratic one with its
reward column, whose best action is known: reward -|a - best(s)|^2, states independent of actions. Same transitions,
networks, rates, batch size and number of updates; weights and order of the batches are each library's own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fixed_points_rllib import train_rllib
from benchmarks.script import run
from prefrec_ray.algorithms import METHODS
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.runtime import start_ray

SETTINGS: dict[str, Any] = {
    "gamma": 0.5,
    "tau": 0.01,
    "hidden_sizes": (64, 64),
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
    "batch_size": 256,
    "expectile": 0.7,
    "temperature": 3.0,
    "bc_alpha": 2.5,
    "candidates": 10,
}
OWN = {"IQL": ("expectile", "temperature"), "TD3_BC": ("bc_alpha",), "BCQ": ("candidates",)}
FIGURES = ("distance_to_best", "distance_to_behaviour", "q_logged", "q_policy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d3rlpy", required=True, help="python of an environment with d3rlpy")
    parser.add_argument("--methods", choices=list(OWN), nargs="+", default=list(OWN))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--output", default="docs/results/fixed_points.json")
    arguments = parser.parse_args()
    # Threads gain nothing on networks this small.
    torch.set_num_threads(1)
    start_ray(num_cpus=2)
    # The task lives beside the tests that are made of it.
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "algorithms"))
    from tiny import best_action, write_dataset

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        write_dataset(dataset, users=60, requests=150, pairs=100, length=2)
        arrays = read_arrays(PreparedDataset.open(str(dataset)))
        best, behaviour = best_action(arrays["held_out"])
        truth = {"best": best, "behaviour": behaviour}
        for method in arguments.methods:
            for seed in arguments.seeds:
                ours = train_ours(method, str(dataset), arrays, seed, arguments.updates)
                theirs = train_theirs(arguments.d3rlpy, method, arrays, seed, arguments.updates, Path(folder))
                libraries = {"prefrec_ray": ours, "d3rlpy": theirs}
                if method == "IQL":
                    libraries["RLlib"] = train_rllib(arrays, SETTINGS, seed, arguments.updates)
                for library, found in libraries.items():
                    rows.append({"method": method, "library": library, "seed": seed, **figures(found, truth)})
                    print(json.dumps(rows[-1]), flush=True)
    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"updates": arguments.updates, "settings": SETTINGS, "runs": rows}, indent=1) + "\n")
    print(table(rows))


def read_arrays(dataset: PreparedDataset) -> dict[str, np.ndarray]:
    """All transitions, and the states of validation users."""
    parts = [dataset.read(file) for file in dataset.files("transitions")]
    columns = {name: np.concatenate([tensor(part[name]) for part in parts]) for name in ("obs", "action", "next_obs")}
    rewards = np.concatenate([part["reward"].to_numpy() for part in parts])
    states = [tensor(dataset.read(file)["state"]) for file in dataset.files("requests", "validation")]
    return {**columns, "reward": rewards, "held_out": np.concatenate(states)}


def train_ours(
    method: str, dataset: str, arrays: dict[str, np.ndarray], seed: int, updates: int
) -> dict[str, np.ndarray]:
    """Policy on held-out states, Q (mean of the twins) on them and on the logged rows."""
    config = METHODS[method].get_default_config().offline_data(input_=dataset).debugging(seed=seed)
    shared = ("gamma", "tau", "hidden_sizes", "actor_lr", "critic_lr")
    values = {name: SETTINGS[name] for name in (*shared, *OWN[method])}
    if method == "IQL":
        values["value_lr"] = SETTINGS["critic_lr"]
    config.training(
        task="depth",
        reward_source="column",
        standardise_reward=False,
        train_batch_size_per_learner=SETTINGS["batch_size"],
        updates_per_iteration=updates,
        num_epochs=updates,
        **values,
    )
    algorithm = config.build_algo()
    algorithm.train()
    net = algorithm.learner_group._learner.net

    def q(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        pair = torch.tensor(states), torch.tensor(actions)
        return torch.stack([function(*pair) for function in net.q]).mean(0).numpy()

    with torch.no_grad():
        policy = net.actor(torch.tensor(arrays["held_out"])).numpy()
        found = {
            "policy": policy,
            "q_policy": q(arrays["held_out"], policy),
            "q_logged": q(arrays["obs"], arrays["action"]),
        }
    algorithm.stop()
    return found


def train_theirs(
    python: str, method: str, arrays: dict[str, np.ndarray], seed: int, updates: int, folder: Path
) -> dict[str, np.ndarray]:
    """The same by d3rlpy, in its own environment."""
    np.savez(folder / "arrays.npz", **arrays)
    task = {**SETTINGS, "method": method, "seed": seed, "updates": updates}
    script = Path(__file__).with_name("fixed_points_d3rlpy.py")
    command = [python, str(script), json.dumps(task), str(folder / "arrays.npz"), str(folder / "found.npz")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(folder / "found.npz") as found:
        return dict(found)


def figures(found: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean distances of the policy, and mean Q."""
    distances = {
        f"distance_to_{name}": np.linalg.norm(found["policy"] - point, axis=1) for name, point in truth.items()
    }
    values = {**distances, "q_logged": found["q_logged"], "q_policy": found["q_policy"]}
    return {name: round(float(np.mean(values[name])), 4) for name in FIGURES}


def table(rows: list[dict[str, Any]]) -> str:
    """Mean over seeds, and (smallest to largest), in Markdown."""
    lines = ["| method | library | " + " | ".join(FIGURES) + " |", "|" + "---|" * (2 + len(FIGURES))]
    for method in dict.fromkeys(row["method"] for row in rows):
        for library in dict.fromkeys(row["library"] for row in rows if row["method"] == method):
            runs = [row for row in rows if (row["method"], row["library"]) == (method, library)]
            columns = [[run[name] for run in runs] for name in FIGURES]
            cells = [f"{np.mean(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in columns]
            lines.append(f"| {method} | {library} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
