"""Whom to ask what: the votes that a team of known reliabilities needs, as `prefrec label` chooses the pairs.

`python -m benchmarks asking DATASET WORK` takes the data set of `crowd`, its truth, its pairs and its 20 annotators.
They answer as on the page, without one: the next pair by `Board` and `VoteScorer`, a pair ends at a posterior. For
comparison: pairs in a random order. Reward models learn from each as in `crowd`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
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
from prefrec_ray.annotation.aggregate import SIDES, one_coin
from prefrec_ray.annotation.page.board import Board
from prefrec_ray.annotation.page.choose import fit, preferred
from prefrec_ray.annotation.page.create import segment_features
from prefrec_ray.annotation.page.vote_scores import VoteScorer
from prefrec_ray.annotation.store import import_votes
from prefrec_ray.annotation.votes import SCHEMA, WORDS
from prefrec_ray.runtime import start_ray

#: As on the page: most votes on a pair, and the posterior at which it ends.
VOTES, POSTERIOR = 5, 0.95
#: Votes in all: as many as it takes, and a third of 3.5 a pair.
BUDGETS = {"all": 10**9, "a third": int(3.5 * PAIRS / 3)}
#: The label sets that rewards learn from.
LEARNED = (
    "truth",
    "all, chosen, labels by votes",
    "all, chosen, labels by votes and ensemble",
    "a third, by chance, labels by votes",
    "a third, by chance, labels by votes and ensemble",
)
#: Of the ensemble's own accuracy: numbers of votes, pairs that are kept out to measure it, seeds.
CURVE, KEPT_OUT, CURVE_SEEDS = (150, 300, 600, 1200), 1000, 4
LABELS = {0.0: "first", 0.5: "tie", 1.0: "second"}


@dataclass(frozen=True)
class Asked:
    """Votes (pair, annotator, label), in order."""

    votes: list[tuple[int, str, str]]

    def per_pair(self) -> float:
        """Votes of a pair that has any; skips count."""
        return len(self.votes) / len({pair for pair, _, _ in self.votes})


def ask(
    truth: dict[int, float],
    scorer: VoteScorer,
    votes: int,
    posterior: float,
    budget: int,
    chosen: bool,
    seed: int,
    rescore: int = 500,
) -> Asked:
    """Annotators come in a chance order until `budget` votes are given, or nothing is left to ask.

    truth: P(second) by pair: 0, 0.5 or 1. votes: most on a pair. posterior: a pair ends there; above 1 none does.
    chosen: pairs by BALD, else by chance. rescore: votes after which scores are new; the page takes 20.
    """
    rng = np.random.default_rng(seed)
    reliability = rng.permutation(np.linspace(LOWEST, HIGHEST, ANNOTATORS))
    by_chance = rng.permutation(list(truth)).tolist()
    board = Board(by_chance, [], votes, (0.0, 0.0))
    given: list[tuple[int, str, str]] = []
    labels: dict[int, list[tuple[str, str]]] = {pair: [] for pair in truth}
    scores, idle = scorer.score([]), 0
    while len(given) < budget and idle < 5 * ANNOTATORS:
        annotator = int(rng.integers(ANNOTATORS))
        following = board.next(name(annotator), 0.0, rng)
        idle = idle + 1 if following is None else 0
        if following is None:
            continue
        pair = following[0]
        label = answer(truth[pair], reliability[annotator], rng)
        board.answered(name(annotator), pair, False)
        given.append((pair, name(annotator), label))
        if label != "skip":
            labels[pair].append((name(annotator), label))
            if scores.decided(pair, labels[pair], posterior):
                board.decided.add(pair)
        if len(given) % rescore == 0:
            scores = scorer.score([vote for vote in given if vote[2] != "skip"])
            board.order = scores.order if chosen else by_chance
            board.decided = scores.all_decided(posterior)
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


def label_sets(truth: dict[int, float], scorer: VoteScorer) -> dict[str, tuple[dict[int, float], dict[str, float]]]:
    """By name: P(second) of the pairs that were asked, and what it took.

    Pairs chosen or by chance; labels by votes alone (`one-coin`), or by votes and what the ensemble says beforehand.
    """
    sets = {}
    for budget, most in BUDGETS.items():
        for chosen in (True, False):
            answers = ask(truth, scorer, VOTES, POSTERIOR, most, chosen, seed=0)
            judged = [vote for vote in answers.votes if vote[2] != "skip"]
            ids, pair = np.unique([pair for pair, _, _ in judged], return_inverse=True)
            annotator = np.unique([who for _, who, _ in judged], return_inverse=True)[1]
            vote_labels = np.array([WORDS[label] for _, _, label in judged], float)
            scores = scorer.score(judged)
            posterior = scores.posterior[[scores.rows[one] for one in ids.tolist()]] @ SIDES
            by = {"votes": one_coin(pair, annotator, vote_labels, len(ids)), "votes and ensemble": posterior}
            for source, label in by.items():
                labels = dict(zip(ids.tolist(), label.tolist(), strict=True))
                key = f"{budget}, {'chosen' if chosen else 'by chance'}, labels by {source}"
                sets[key] = labels, quality(answers, truth, labels)
    return sets


def curve(ids: list[int], truth: np.ndarray, features: np.ndarray) -> dict[str, list[float]]:
    """Accuracy of the ensemble on pairs that nobody is asked about, after each number of `CURVE` votes, by choice."""
    pool, left = ids[:-KEPT_OUT], truth[-KEPT_OUT:]
    accuracies: dict[str, list[list[float]]] = {"chosen": [], "by chance": []}
    for seed in range(CURVE_SEEDS):
        scorer = VoteScorer([(pair, None) for pair in pool], np.array(pool), features[:-KEPT_OUT], seed)
        for how, rows in accuracies.items():
            pairs = dict(zip(pool, truth.tolist(), strict=False))
            votes = ask(pairs, scorer, VOTES, POSTERIOR, CURVE[-1], how == "chosen", seed, rescore=50).votes
            rows.append([_accuracy(scorer, votes[:count], features, left) for count in CURVE])
    return {how: np.mean(rows, axis=0).tolist() for how, rows in accuracies.items()}


def _accuracy(scorer: VoteScorer, votes: list[tuple[int, str, str]], features: np.ndarray, left: np.ndarray) -> float:
    judged = [vote for vote in votes if vote[2] != "skip"]
    scores = scorer.score(judged)
    rows = np.unique([scores.rows[pair] for pair, _, _ in judged])
    weights, _ = fit(features[rows], scores.posterior[rows] @ SIDES, 0)
    second = preferred(features[-KEPT_OUT:], weights).mean(axis=1) > 0.5
    return float((second == (left > 0.5))[left != 0.5].mean())


def main(dataset: Path, work: Path) -> dict[str, Any]:
    """Prints and writes votes, quality of labels, and the accuracy of rewards that learned from them."""
    start_ray(num_cpus=2)
    copy = small_copy(str(dataset), work / "dataset")
    pairs, exact = true_pairs(copy, TASK, TRUTH, PAIRS)
    ids = pairs["pair_id"].to_pylist()
    truth = dict(zip(ids, exact.tolist(), strict=True))
    features = segment_features(copy, pairs, 0, quiet)
    scorer = VoteScorer([(pair, None) for pair in ids], pairs["pair_id"].to_numpy(), features, 0)
    sets: dict[str, Any] = {"truth": (truth, {}), **label_sets(truth, scorer)}
    learned = curve(ids, exact, features)
    print("ensemble", json.dumps(learned), flush=True)
    results = {key: about for key, (_, about) in sets.items()}
    for number, key in enumerate(LEARNED):
        rows = [{"pair_id": pair, "annotator": "all", "label": label} for pair, label in sets[key][0].items()]
        import_votes(pa.Table.from_pylist(rows, SCHEMA), key, pairs, "pairs", copy, f"set{number}", "mean", quiet)
        accuracy = [trained(copy, f"set{number}", TRUTH, seed, **SETTINGS) for seed in range(SEEDS)]
        results[key] = {**results[key], "accuracy": accuracy}
        print(key, json.dumps(results[key]), flush=True)
    return {"training": SETTINGS, "labels": results, "ensemble": learned}
