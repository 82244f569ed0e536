"""The annotators of `benchmarks asking`: one vote per pair, no more votes than allowed, calibrated posteriors."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.truth.asking import ask, quality
from prefrec_ray.annotation.aggregate import one_coin
from prefrec_ray.annotation.votes import WORDS


def test_a_team_asks_until_it_is_sure() -> None:
    rng = np.random.default_rng(0)
    truth = dict(enumerate(rng.choice([0.0, 1.0], 120).tolist()))
    answers = ask(truth, 6, 0.95, 10**9, 0, rescore=60)
    assert max(Counter((pair, who) for pair, who, _ in answers.votes).values()) == 1
    assert max(Counter(pair for pair, _, _ in answers.votes).values()) == 6
    judged = [vote for vote in answers.votes if vote[2] != "skip"]
    pair = np.array([pair for pair, _, _ in judged])
    annotator = np.unique([who for _, who, _ in judged], return_inverse=True)[1]
    label = one_coin(pair, annotator, np.array([WORDS[label] for _, _, label in judged]), 120)
    summary = quality(answers, truth, dict(enumerate(label.tolist())))
    assert summary["votes_a_pair"] < 5
    assert summary["right"] == pytest.approx(np.maximum(label, 1 - label).mean(), abs=0.06)
    assert len(ask(truth, 6, 0.95, 100, 0).votes) == 100
