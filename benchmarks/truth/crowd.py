"""A crowd of annotators with known reliabilities: their labels against the truth, and rewards learned from the labels.

`python -m benchmarks crowd DATASET WORK` takes a data set that was prepared from a simulated log. Its scripted teacher
`within_user_mean` is the truth on 5,000 of its pairs. 20 simulated annotators vote on them: a fixed number per pair,
and as on the page of `prefrec label`, without HTTP: `Desk` chooses the next pair, and a pair ends at a posterior. Votes
become labels as in `prefrec import-labels`. Reward models learn from the labels, and are measured on the data set's own
held-out labels, next to models that learn from the truth.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import storage
from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.base.algorithm import on_first_learner
from prefrec_ray.algorithms.base.diagnostics import reward_accuracy
from prefrec_ray.algorithms.feed.preferences import load_buffer
from prefrec_ray.algorithms.requests import reward_columns
from prefrec_ray.annotation.aggregate import AGGREGATES, VoteScores
from prefrec_ray.annotation.labels import SCHEMA, WORDS, import_votes
from prefrec_ray.annotation.page.desk import DRAWN, Desk, LabelSettings, exchanged
from prefrec_ray.annotation.page.store import Store
from prefrec_ray.annotation.questions import IDENTITY, pair_ids
from prefrec_ray.dataset import PreparedDataset, write_table
from prefrec_ray.errors import UserError
from prefrec_ray.runtime import start_ray

TASK, TRUTH = "frequency", "within_user_mean"
ANNOTATORS, PAIRS, SEEDS = 20, 5_000, 3
#: Fixed numbers of votes on each pair.
VOTES = (5, 20)
#: As on the page: the largest number of votes on a pair, and the posterior at which it ends.
PAGE = LabelSettings(votes=5, posterior=0.95, gold=0.0, repeats=0.0)
#: Largest numbers of votes by the page: no limit, and a third of 3.5 per pair.
BUDGETS = {"all": 10**9, "third": int(3.5 * PAIRS / 3)}
LOWEST, HIGHEST = 0.55, 0.95
SKIPPED = 0.03
#: Settings of the reward models.
SETTINGS = {
    "task": TASK,
    "hidden_sizes": (128, 128, 128),
    "preference_batch_size": 16,
    "train_batch_size_per_learner": 64,
    "pretrain_updates": None,  # all epochs, to see what the labels hold: the recipe stops earlier
}
#: The label of P(second preferred).
LABELS = {0.0: "first", 0.5: "tie", 1.0: "second"}

#: Pair, annotator, label.
Vote = tuple[int, str, str]


class Crowd:
    """Annotators whose reliabilities are spread evenly over [LOWEST, HIGHEST], in a random order."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.reliability = self.rng.permutation(np.linspace(LOWEST, HIGHEST, ANNOTATORS))

    def vote(self, pair: int, truth: float, annotator: int) -> Vote:
        """Return the vote on a pair with P(second preferred) `truth`: 0, 0.5 or 1.

        It is the truth with the probability of the reliability, else the opposite, of a tie either side; or a skip.
        """
        if self.rng.random() < SKIPPED:
            return pair, name(annotator), "skip"
        wrong = float(self.rng.integers(2)) if truth == 0.5 else 1 - truth
        right = self.rng.random() < self.reliability[annotator]
        return pair, name(annotator), LABELS[truth if right else wrong]

    def fixed(self, truth: dict[int, float], votes: int) -> list[Vote]:
        """Return the votes of `votes` different annotators on each pair. truth: P(second preferred) by pair."""
        return [
            self.vote(pair, preferred, int(annotator))
            for pair, preferred in truth.items()
            for annotator in self.rng.permutation(ANNOTATORS)[:votes]
        ]

    def asked(
        self, truth: dict[int, float], budget: int, settings: LabelSettings = PAGE, rescore: int = 500
    ) -> list[Vote]:
        """Return the votes on the questions of a `Desk`, until `budget` votes are made or no question is left.

        rescore: votes after which scores are new; the page takes 20.
        """
        with TemporaryDirectory() as folder:
            about = {"dataset": "", "secret": "", "signals": [], "settings": settings.model_dump(include=set(DRAWN))}
            Store.create(folder, about, [(pair, "train", None, "[[], []]") for pair in truth])
            desk = Desk(folder, settings, clock=lambda: 0.0)
            for annotator in range(ANNOTATORS):
                desk.store.invite(name(annotator), expires=1.0)
            given: list[Vote] = []
            idle = 0
            while len(given) < budget and idle < 5 * ANNOTATORS:
                annotator = int(self.rng.integers(ANNOTATORS))
                question = desk.question(name(annotator))
                idle = idle + 1 if question is None else 0
                if question is None:
                    continue
                given.append(self.vote(question.pair, truth[question.pair], annotator))
                desk.vote(name(annotator), question.token, exchanged(given[-1][2], question.flipped))
                if len(given) % rescore == 0:
                    desk.take(VoteScores.fit(desk.judged(), {}))
            desk.store.close()
            return given


def name(annotator: int) -> str:
    """Return the name of an annotator."""
    return f"annotator {annotator:02d}"


def labels_of(
    votes: list[Vote], pairs: pa.Table, dataset: PreparedDataset, teacher: str, aggregate: str
) -> dict[int, float]:
    """Import votes as the labels `teacher`, and return P(second preferred) of each pair that has a vote."""
    rows = [{"pair_id": pair, "annotator": who, "label": WORDS[label]} for pair, who, label in votes]
    import_votes(pa.Table.from_pylist(rows, SCHEMA), teacher, pairs, "pairs", dataset, teacher, aggregate)
    table = dataset.read(dataset.people_path(teacher, "train"), ["pair_id", "label"])
    return dict(zip(table["pair_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def quality(votes: list[Vote], truth: dict[int, float], label: dict[int, float]) -> dict[str, float]:
    """Return the number of labelled pairs, votes per pair (skips count), and the share of labels on the true side."""
    right = [np.sign(label[pair] - 0.5) == np.sign(truth[pair] - 0.5) for pair in label if truth[pair] != 0.5]
    asked = len({pair for pair, _, _ in votes})
    return {"pairs": len(label), "votes_per_pair": len(votes) / asked, "aggregated": float(np.mean(right))}


def true_pairs(dataset: PreparedDataset, task: str, teacher: str, count: int) -> tuple[pa.Table, dict[int, float]]:
    """Return the first `count` different training pairs of a scripted teacher, and P(second preferred) by pair."""
    table = dataset.read(dataset.path("preferences", task, "train.parquet"))
    table = table.filter(pc.equal(table["teacher"], teacher))
    ids = pair_ids(table.select(IDENTITY)).to_numpy()
    rows = np.sort(np.unique(ids, return_index=True)[1])[:count]
    table = table.take(pa.array(rows))
    columns = {"pair_id": ids[rows], "split": ["train"] * len(rows), **{n: table[n] for n in IDENTITY}}
    return pa.table(columns), dict(zip(ids[rows].tolist(), table["label"].to_pylist(), strict=True))


def trained(dataset: PreparedDataset, teacher: str, scripted: str, seed: int, **settings: Any) -> list[float]:
    """Return the accuracy within users by epoch, on held-out `scripted` labels, of a reward taught by `teacher`."""
    config = PrefRecConfig().offline_data(input_=dataset.uri).debugging(seed=seed)
    algorithm = config.training(teachers=(teacher,), **settings).build_algo()
    columns = reward_columns(algorithm.config.settings, dataset)
    held_out = load_buffer(dataset.uri, algorithm.config.task, "validation", [scripted], columns)
    accuracies = []
    try:
        while algorithm.offline_data.schedule.at(algorithm.iteration).phase == "pretrain":
            algorithm.train()
            accuracy = on_first_learner(algorithm.learner_group, lambda learner: reward_accuracy(learner.net, held_out))
            accuracies.append(accuracy["reward/accuracy_within_user"])
        return accuracies
    finally:
        algorithm.stop()


def small_copy(source: str, folder: Path) -> PreparedDataset:
    """Make a data set that shares all files of `source` except transitions, of which it has few: rewards need none."""
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
    """Print and return the quality of the labels, and the accuracy of rewards that learned from them."""
    start_ray(num_cpus=2)
    copy = small_copy(str(dataset), work / "dataset")
    pairs, truth = true_pairs(copy, TASK, TRUTH, PAIRS)
    sets = {"truth": ([(pair, "truth", LABELS[preferred]) for pair, preferred in truth.items()], "mean")}
    for count in VOTES:
        votes = Crowd(seed=0).fixed(truth, count)
        sets |= {f"{aggregate}_{count}_votes": (votes, aggregate) for aggregate in AGGREGATES}
    sets |= {f"page_{key}": (Crowd(seed=0).asked(truth, budget), "one-coin") for key, budget in BUDGETS.items()}
    results: dict[str, Any] = {}
    for teacher, (votes, aggregate) in sets.items():
        label = labels_of(votes, pairs, copy, teacher, aggregate)
        accuracy = [trained(copy, teacher, TRUTH, seed, **SETTINGS) for seed in range(SEEDS)]
        results[teacher] = {**quality(votes, truth, label), "accuracy": accuracy}
        print(teacher, json.dumps(results[teacher]), flush=True)
    return {"training": SETTINGS, "labels": results}
