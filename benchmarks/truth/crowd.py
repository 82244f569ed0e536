"""A crowd of annotators with known reliabilities: is the truth recovered, and does a reward model learn as well?

`python -m benchmarks crowd DATASET WORK` takes a data set that was prepared from a simulated log. Its
scripted teacher `within_user_mean` is the truth: 20 simulated annotators judge 5,000 of its pairs, their answers go
through `prefrec import-labels`, and reward models trained on the aggregated labels are measured on the data set's own
held-out labels, beside models trained on the truth.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import spearmanr

from prefrec_ray import storage
from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.base.algorithm import on_each_learner
from prefrec_ray.algorithms.base.diagnostics import reward_accuracy
from prefrec_ray.algorithms.feed.preferences import load_buffer
from prefrec_ray.algorithms.requests import reward_columns
from prefrec_ray.annotation.aggregate import AGGREGATES
from prefrec_ray.annotation.questions import IDENTITY, pair_ids
from prefrec_ray.annotation.store import import_labels
from prefrec_ray.dataset import PreparedDataset, write_table
from prefrec_ray.errors import UserError
from prefrec_ray.runtime import start_ray

TASK, TRUTH = "frequency", "within_user_mean"
ANNOTATORS, PAIRS, SEEDS = 20, 5_000, 3
VOTES = (5, 20)  # a pair
LOWEST, HIGHEST = 0.55, 0.95
SKIPPED = 0.03
WORDS = np.array(["first", "tie", "second"])
#: Settings of the reward models.
SETTINGS = {
    "task": TASK,
    "hidden_sizes": (128, 128, 128),
    "preference_batch_size": 16,
    "train_batch_size_per_learner": 64,
    "pretrain_updates": None,  # all epochs, to see what the labels hold: the recipe stops earlier
}


@dataclass(frozen=True)
class Crowd:
    """Answers, one per row: pair [V] and annotator [V] from 0, answer [V] in words; `reliability` [A] made them."""

    pair: np.ndarray
    annotator: np.ndarray
    answer: np.ndarray
    reliability: np.ndarray


def answers(truth: np.ndarray, annotators: int, votes: int, seed: int) -> Crowd:
    """Each pair is put to `votes` different annotators. `truth` [P] is P(second preferred): 0, 0.5 or 1.

    Reliabilities are spread evenly over [LOWEST, HIGHEST]. Where the truth decides, an annotator says so with the
    probability of the reliability, and the opposite otherwise; where it is a tie, tie or else either side.
    """
    rng = np.random.default_rng(seed)
    reliability = rng.permutation(np.linspace(LOWEST, HIGHEST, annotators))
    annotator = np.argsort(rng.random((len(truth), annotators)), axis=1)[:, :votes].ravel()
    pair = np.repeat(np.arange(len(truth)), votes)
    right = rng.random(len(pair)) < reliability[annotator]
    wrong = np.where(truth[pair] == 0.5, rng.integers(0, 2, len(pair)), 1 - truth[pair])
    answer = WORDS[(2 * np.where(right, truth[pair], wrong)).astype(int)]
    return Crowd(pair, annotator, np.where(rng.random(len(pair)) < SKIPPED, "skip", answer), reliability)


def quality(crowd: Crowd, truth: np.ndarray, label: np.ndarray, summary: dict[str, Any]) -> dict[str, float]:
    """Accuracy on the decided pairs, of the mean annotator and of the preference labels [P]; rank of reliabilities."""
    decided = truth != 0.5
    answered = crowd.answer != "skip"
    right = crowd.answer == WORDS[(2 * truth[crowd.pair]).astype(int)]
    each = [
        right[answered & decided[crowd.pair] & (crowd.annotator == a)].mean() for a in range(len(crowd.reliability))
    ]
    agreement_of = {row["annotator"]: 1 - row["disagreement"] for row in summary["annotators"]}
    agreement = [agreement_of[name(a)] for a in range(len(crowd.reliability))]
    return {
        "mean_annotator": float(np.mean(each)),
        "best_annotator": float(np.max(each)),
        "aggregated": float((np.sign(label - 0.5) == np.sign(truth - 0.5))[decided].mean()),
        "rank_correlation": float(spearmanr(agreement, crowd.reliability).statistic),
        "alpha": float(summary["krippendorff_alpha"]),
    }


def name(annotator: int) -> str:
    """Name of annotator number `annotator`."""
    return f"annotator {annotator:02d}"


def ask(pairs: pa.Table, crowd: Crowd, folder: Path) -> tuple[str, str]:
    """Writes the questions (without what people would see) and the answers; returns both places."""
    folder.mkdir(parents=True)
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in pairs.to_pylist())
    ids = pairs["pair_id"].to_numpy()
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as stream:
        for pair, annotator, answer in zip(crowd.pair, crowd.annotator, crowd.answer, strict=True):
            row = {"pair_id": int(ids[pair]), "annotator": name(int(annotator)), "label": str(answer)}
            stream.write(json.dumps(row) + "\n")
    return str(folder), str(folder / "answers.jsonl")


def true_pairs(dataset: PreparedDataset, task: str, teacher: str, count: int) -> tuple[pa.Table, np.ndarray]:
    """The first `count` different training pairs of a scripted teacher, as questions, and their preference labels."""
    table = dataset.read(dataset.path("preferences", task, "train.parquet"))
    table = table.filter(pc.equal(table["teacher"], teacher))
    ids = pair_ids(table.select(IDENTITY)).to_numpy()
    rows = np.sort(np.unique(ids, return_index=True)[1])[:count]
    table = table.take(pa.array(rows))
    columns = {"pair_id": ids[rows], "split": ["train"] * len(rows), **{n: table[n] for n in IDENTITY}}
    return pa.table(columns), table["label"].to_numpy().astype(np.float64)


def imported(dataset: PreparedDataset, teacher: str, pairs: pa.Table) -> np.ndarray:
    """The preference labels of people, in the order of `pairs`; 0.5 for a pair that everybody skipped."""
    table = dataset.read(dataset.people_path(teacher, "train"))
    place = pc.index_in(pairs["pair_id"].combine_chunks(), table["pair_id"].combine_chunks())
    label = table["label"].to_numpy()[place.fill_null(0).to_numpy()]
    return np.where(place.is_valid().to_numpy(zero_copy_only=False), label, 0.5)


def trained(dataset: PreparedDataset, teacher: str, scripted: str, seed: int, **settings: Any) -> list[float]:
    """Accuracy within users, on the held-out labels of `scripted`, of a reward model trained on `teacher`, by epoch."""
    config = PrefRecConfig().offline_data(input_=dataset.uri).debugging(seed=seed)
    algorithm = config.training(teachers=(teacher,), **settings).build_algo()
    columns = reward_columns(algorithm.config.settings, dataset)
    held_out = load_buffer(dataset.uri, algorithm.config.task, "validation", [scripted], columns)
    measure = [lambda learner: reward_accuracy(learner.net, held_out)]
    accuracies = []
    try:
        while algorithm.offline_data.schedule.at(algorithm.iteration).phase == "pretrain":
            algorithm.train()
            accuracies.append(on_each_learner(algorithm.learner_group, measure)[0]["reward/accuracy_within_user"])
        return accuracies
    finally:
        algorithm.stop()


def small_copy(source: str, folder: Path) -> PreparedDataset:
    """A data set that shares all files of `source` but the transitions, of which it has a few: rewards need none."""
    if folder.exists():
        raise UserError(f"{folder}: exists; expected a folder WORK that is new")
    folder.mkdir(parents=True)
    for part in ("items.parquet", "sessions", "requests", "preferences"):
        os.symlink(os.path.join(os.path.abspath(source), part), folder / part)
    original = PreparedDataset.open(source)
    (folder / "transitions").mkdir()
    rows = original.read(original.files("transitions")[0])
    for shard in range(8):
        write_table(rows.slice(64 * shard, 64), str(folder / "transitions" / f"part-{shard:05d}.parquet"))
    metadata = original.metadata.model_dump(mode="json")
    metadata["counts"]["train"]["transitions"] = 8 * 64
    storage.write_json(str(folder / "metadata.json"), metadata)
    return PreparedDataset.open(str(folder))


def main(dataset: Path, work: Path) -> dict[str, Any]:
    """Prints and writes how good the labels of each aggregate are, and the reward models that learned from them."""
    start_ray(num_cpus=2)
    copy = small_copy(str(dataset), work / "dataset")
    pairs, truth = true_pairs(copy, TASK, TRUTH, PAIRS)
    exact = Crowd(np.arange(len(truth)), np.zeros(len(truth), int), WORDS[(2 * truth).astype(int)], np.ones(1))
    questions, answer_file = ask(pairs, exact, work / "truth")
    import_labels(answer_file, questions, copy.uri, "truth", "mean", False, quiet)
    labels: dict[str, dict[str, Any]] = {"truth": {}}
    for votes in VOTES:
        crowd = answers(truth, ANNOTATORS, votes, seed=0)
        questions, answer_file = ask(pairs, crowd, work / f"votes{votes}")
        for aggregate in AGGREGATES:
            teacher = f"{aggregate}_{votes}_votes"
            summary = import_labels(answer_file, questions, copy.uri, teacher, aggregate, False, quiet)
            labels[teacher] = quality(crowd, truth, imported(copy, teacher, pairs), summary)
    for teacher, about in labels.items():
        about["accuracy"] = [trained(copy, teacher, TRUTH, seed, **SETTINGS) for seed in range(SEEDS)]
        print(teacher, json.dumps(about), flush=True)
    return {"training": SETTINGS, "labels": labels}


def quiet(*_: Any) -> None:
    """No progress is shown."""
