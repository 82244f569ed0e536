"""Checks that training raises the true level in the simulator.

    python -m benchmarks sanity [--seeds 0 1 2]

For each seed a new world, log and training seed: PrefRec on the true satisfaction, and with learned rewards under the
recipes `robust` and `paper` on all three tasks, rolled out beside the logging policy, behavior cloning and the
hand-made policies. Score: (value - logging policy) / (nutrition - logging policy).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import markdown
from benchmarks.truth.scores import pick
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import prepare
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.clone import fit_clone
from prefrec_ray.evaluation.names import subject_title
from prefrec_ray.evaluation.online import RollOut, evaluate_online
from prefrec_ray.policy import Policy
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import train
from prefrec_ray.runtime import start_ray
from prefrec_ray.settings import TASKS
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

#: Both recipes at the same small size and budget; what a recipe is about (rates, teacher, reward, horizon) is its own.
SIZE: dict[str, Any] = {
    "hidden_sizes": [128, 128, 128],
    "train_batch_size_per_learner": 512,
    "preference_batch_size": 16,
    "num_epochs": 2,
}


def train_all(dataset: str, folder: Path, seed: int) -> dict[str, Policy]:
    """The truth's policy and one for each (recipe, task)."""
    jobs = {"truth": ("robust", "frequency", {"reward_source": "column"})}
    jobs |= {f"{recipe} {task}": (recipe, task, {}) for recipe in ("robust", "paper") for task in TASKS}
    policies = {}
    for name, (recipe, task, config) in jobs.items():
        output = str(folder / name.replace(" ", "_"))
        start = time.perf_counter()
        rows = train(TrainSettings(recipe=recipe, task=task, seed=seed, config={**SIZE, **config}), dataset, output)
        accuracy = rows[-1]["reward/accuracy_within_user"]
        print(f"  {name}: {time.perf_counter() - start:.0f} s, within-user accuracy {accuracy}", flush=True)
        policies[name] = Policy.load(f"{output}/policy")
    return policies


def one_seed(seed: int) -> list[dict[str, Any]]:
    """The records of one world."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        simulate(SimulateSettings(seed=seed, truth=True), str(folder / "logs"))
        source = {"kind": "simulator", "path": str(folder / "logs")}
        settings = PrepareSettings(source=source, seed=seed, preferences={"pairs": 6000})
        prepare(settings, str(folder / "dataset"))
        shutil.rmtree(folder / "logs")
        dataset = PreparedDataset.open(str(folder / "dataset"))
        policies = train_all(dataset.uri, folder, seed)
        clone = fit_clone(dataset, seed).policy
        records = evaluate_online(dataset, policies, TASKS, RollOut(users=300, seed=seed), {"imitation": clone})
    return [{**record.model_dump(exclude_unset=True), "seed": seed} for record in records]


def table(records: list[dict[str, Any]]) -> str:
    """A line a subject that belongs to the task: value and score of each seed."""
    lines = []
    for task in TASKS:
        of_task = pick(records, task=task)
        best = {record["seed"]: record["value"] for record in pick(of_task, subject="nutrition")}
        for subject in dict.fromkeys(record["subject"] for record in of_task):
            if subject.split()[-1] in TASKS and subject.split()[-1] != task:
                continue
            rows = pick(of_task, subject=subject)
            scores = [(r["value"] - r["behaviour"]) / (best[r["seed"]] - r["behaviour"]) for r in rows]
            by_seed = (" ".join(f"{value:.2f}" for value in values) for values in ([r["value"] for r in rows], scores))
            lines.append([task, subject_title(subject), *by_seed])
    return markdown(["task", "subject", "true level, by seed", "score, by seed"], lines)


def main(seeds: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
    """Runs the seeds."""
    start_ray()
    records: list[dict[str, Any]] = []
    for seed in seeds:
        print(f"seed {seed}", flush=True)
        records += one_seed(seed)
        print(table(records), flush=True)
    return {"records": records}
