"""How well estimates rank policies, against their true levels: `python -m benchmarks selection OUTPUT`.

OUTPUT is that of the truth bench (python -m benchmarks truth OUTPUT). In every world and task its policies (eight
methods under `robust`; PrefRec under `paper` and on the true satisfaction) are scored on validation users, as trials of
a sweep are, and compared with their true levels on test users. Printed, and written to --json: Spearman's rank
correlation over all policies and over those under `robust` alone, and the share of pairs in the right order among those
whose true levels differ by a tenth of the difference between logging policy and best.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import ray
from scipy.stats import spearmanr

from benchmarks.harness import options, write
from prefrec_ray.evaluation.settings import ValidationSettings
from prefrec_ray.evaluation.validation import Judge
from prefrec_ray.policy import Policy
from prefrec_ray.runtime import start_ray
from prefrec_ray.terms import TASKS

RECIPES = ("robust", "paper", "truth")
_APART = 0.1


def policies(world: Path, task: str) -> list[dict[str, Any]]:
    """Recipe, method, seed, folder and true level of a task's policies; `behaviour`: the logging policy's level."""
    rolled_out = []
    for recipe in RECIPES:
        for record in json.loads((world / recipe / "evaluation.json").read_text())["records"]:
            if record["estimator"] == "online" and record["role"] == "policy" and record["task"] == task:
                method, seed = record["method"], record["provenance"]["seed"]
                (folder,) = (world / recipe / "policies").glob(f"{method}_{task}_{seed}_*")
                about = {"recipe": recipe, "method": method, "seed": seed, "folder": str(folder)}
                rolled_out.append({**about, "truth": record["value"], "behaviour": record["behaviour"]})
    return rolled_out


@ray.remote(num_cpus=1)
def _score(judge: Judge, folder: str, task: str) -> dict[str, float]:
    return judge.scores(Policy.load(folder), task)


def compared(rolled_out: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Rank correlations of one estimate with the truth, and its share of pairs in the right order."""
    truth, score = (np.array([one[key] for one in rolled_out]) for key in ("truth", name))
    robust = np.array([one["recipe"] == "robust" for one in rolled_out])
    a, b = np.triu_indices(len(rolled_out), 1)
    apart = np.abs(truth[a] - truth[b]) > _APART * (truth.max() - rolled_out[0]["behaviour"])
    right = np.sign(truth[a] - truth[b]) == np.sign(score[a] - score[b])
    return {
        "all": float(spearmanr(truth, score).statistic),
        "robust": float(spearmanr(truth[robust], score[robust]).statistic),
        "pairs": float(right[apart].mean()),
    }


def main() -> None:
    """Prints a line for each world, task and estimate."""
    parser = options(__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--worlds", nargs="+")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--estimators", nargs="+", default=["preference", "fqe", "ncis"])
    parser.add_argument(
        "--online", action="store_true", help="also the true level on validation users, as an upper bound"
    )
    arguments = parser.parse_args()
    start_ray()
    worlds = arguments.worlds or sorted(
        file.parents[1].name for file in arguments.output.glob("*/truth/evaluation.json")
    )
    rows = []
    for world in worlds:
        uri = str((arguments.output / world / "dataset").absolute())
        settings = ValidationSettings(estimators=tuple(arguments.estimators), online=arguments.online)
        judge = Judge.prepare(uri, settings, arguments.tasks)
        shared = ray.put(judge)
        for task in arguments.tasks:
            rolled_out = policies(arguments.output / world, task)
            scores = ray.get([_score.remote(shared, one["folder"], task) for one in rolled_out])
            for name in [*arguments.estimators, *(["online"] if arguments.online else [])]:
                for one, score in zip(rolled_out, scores, strict=True):
                    one[name] = score[f"validation/{name}"]
                about = {key: round(value, 2) for key, value in compared(rolled_out, name).items()}
                print(f"{world:22} {task:10} {name:11} {about}", flush=True)
                rows.append({"world": world, "task": task, "estimate": name, **about})
            write(arguments, rows=rows)
