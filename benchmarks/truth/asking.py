"""Whom to ask what: the votes that a team of known reliabilities needs, as `prefrec label` chooses the pairs.

`python -m benchmarks asking DATASET WORK` takes the data set of `crowd`, its truth, its pairs and its 20 annotators.
They answer as on the page, without HTTP: `Desk` chooses the next pair, and a pair ends at a posterior of `VoteScores`.
Reward models learn from the labels as in `crowd`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.truth.crowd import (
    ANNOTATORS,
    HIGHEST,
    LOWEST,
    PAIRS,
    SEEDS,
    SETTINGS,
    SKIPPED,
    TASK,
    TRUTH,
    name,
    quiet,
    small_copy,
    trained,
    true_pairs,
)
from prefrec_ray.annotation.aggregate import VoteScores, one_coin
from prefrec_ray.annotation.page.desk import DRAWN, Desk, LabelSettings, exchanged
from prefrec_ray.annotation.page.store import Store
from prefrec_ray.annotation.store import import_votes
from prefrec_ray.annotation.votes import SCHEMA, WORDS
from prefrec_ray.runtime import start_ray

#: As on the page: most votes on a pair, and the posterior at which it ends.
VOTES, POSTERIOR = 5, 0.95
#: Votes in all: as many as it takes, and a third of 3.5 a pair.
BUDGETS = {"all": 10**9, "a third": int(3.5 * PAIRS / 3)}
LABELS = {0.0: "first", 0.5: "tie", 1.0: "second"}


@dataclass(frozen=True)
class Asked:
    """Votes (pair, annotator, label), in order."""

    votes: list[tuple[int, str, str]]

    def per_pair(self) -> float:
        """Votes of a pair that has any; skips count."""
        return len(self.votes) / len({pair for pair, _, _ in self.votes})


def ask(truth: dict[int, float], votes: int, posterior: float, budget: int, seed: int, rescore: int = 500) -> Asked:
    """Annotators come in a chance order until `budget` votes are given, or nothing is left to ask.

    truth: P(second) by pair: 0, 0.5 or 1. votes: most on a pair. posterior: a pair ends there. rescore: votes after
    which scores are new; the page takes 20.
    """
    settings = LabelSettings(votes=votes, posterior=posterior, gold=0.0, repeats=0.0)
    with TemporaryDirectory() as folder:
        about = {"dataset": "", "secret": "", "signals": [], "settings": settings.model_dump(include=set(DRAWN))}
        Store.create(folder, about, [(pair, "train", None, "[[], []]") for pair in truth])
        desk = Desk(folder, settings, clock=lambda: 0.0)
        for annotator in range(ANNOTATORS):
            desk.store.invite(name(annotator), expires=1.0)
        try:
            return _ask(desk, truth, budget, seed, rescore)
        finally:
            desk.store.close()


def _ask(desk: Desk, truth: dict[int, float], budget: int, seed: int, rescore: int) -> Asked:
    rng = np.random.default_rng(seed)
    reliability = rng.permutation(np.linspace(LOWEST, HIGHEST, ANNOTATORS))
    given: list[tuple[int, str, str]] = []
    idle = 0
    while len(given) < budget and idle < 5 * ANNOTATORS:
        annotator = int(rng.integers(ANNOTATORS))
        question = desk.question(name(annotator))
        idle = idle + 1 if question is None else 0
        if question is None:
            continue
        lease = question.lease
        label = answer(truth[lease.pair], reliability[annotator], rng)
        desk.vote(name(annotator), lease.token, exchanged(label, lease.flipped), seconds=1.0)
        given.append((lease.pair, name(annotator), label))
        if len(given) % rescore == 0:
            desk.take(VoteScores.fit(desk.judged(), {}))
    return Asked(given)


def answer(truth: float, reliability: float, rng: np.random.Generator) -> str:
    """As `crowd.answers`: the truth, or else the opposite; of a tie either side; or a skip."""
    if rng.random() < SKIPPED:
        return "skip"
    wrong = float(rng.integers(2)) if truth == 0.5 else 1 - truth
    return LABELS[truth if rng.random() < reliability else wrong]


def quality(answers: Asked, truth: dict[int, float], label: dict[int, float]) -> dict[str, float]:
    """How many votes, and how many of the asked pairs that the truth decides have a label on the true side."""
    pairs = [pair for pair in label if truth[pair] != 0.5]
    right = [np.sign(label[pair] - 0.5) == np.sign(truth[pair] - 0.5) for pair in pairs]
    return {
        "votes": len(answers.votes),
        "votes_a_pair": answers.per_pair(),
        "right": float(np.mean(right)),
        "pairs": len(label),
    }


def label_sets(truth: dict[int, float]) -> dict[str, tuple[dict[int, float], dict[str, float]]]:
    """By budget: P(second) of the pairs that were asked (`one-coin`), and what it took."""
    sets = {}
    for budget, most in BUDGETS.items():
        answers = ask(truth, VOTES, POSTERIOR, most, seed=0)
        judged = [vote for vote in answers.votes if vote[2] != "skip"]
        ids, pair = np.unique([pair for pair, _, _ in judged], return_inverse=True)
        annotator = np.unique([who for _, who, _ in judged], return_inverse=True)[1]
        votes = np.array([WORDS[label] for _, _, label in judged], float)
        labels = dict(zip(ids.tolist(), one_coin(pair, annotator, votes, len(ids)).tolist(), strict=True))
        sets[budget] = labels, quality(answers, truth, labels)
    return sets


def main(dataset: Path, work: Path) -> dict[str, Any]:
    """Prints and writes votes, quality of labels, and the accuracy of rewards that learned from them."""
    start_ray(num_cpus=2)
    copy = small_copy(str(dataset), work / "dataset")
    pairs, exact = true_pairs(copy, TASK, TRUTH, PAIRS)
    truth = dict(zip(pairs["pair_id"].to_pylist(), exact.tolist(), strict=True))
    sets: dict[str, Any] = {"truth": (truth, {}), **label_sets(truth)}
    results = {key: about for key, (_, about) in sets.items()}
    for number, key in enumerate(sets):
        rows = [{"pair_id": pair, "annotator": "all", "label": label} for pair, label in sets[key][0].items()]
        import_votes(pa.Table.from_pylist(rows, SCHEMA), key, pairs, "pairs", copy, f"set{number}", "mean", quiet)
        accuracy = [trained(copy, f"set{number}", TRUTH, seed, **SETTINGS) for seed in range(SEEDS)]
        results[key] = {**results[key], "accuracy": accuracy}
        print(key, json.dumps(results[key]), flush=True)
    return {"training": SETTINGS, "labels": results}
