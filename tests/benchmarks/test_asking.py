"""The annotators of `benchmarks asking`: one vote per pair, no more votes than allowed, calibrated posteriors."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.truth.asking import ask, quality
from prefrec_ray.annotation.page.choose import MEMBERS, WIDTH
from prefrec_ray.annotation.page.vote_scores import VoteScorer


def test_a_team_asks_until_it_is_sure() -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(400)
    features = rng.standard_normal((len(ids), MEMBERS, WIDTH)).astype(np.float32)
    truth = dict(enumerate(rng.choice([0.0, 1.0], len(ids)).tolist()))
    scorer = VoteScorer([(pair, None) for pair in ids.tolist()], ids, features, 0)
    answers = ask(truth, scorer, 6, 0.95, 10**9, True, 0, rescore=200)
    assert max(Counter((pair, who) for pair, who, _ in answers.votes).values()) == 1
    assert max(Counter(pair for pair, _, _ in answers.votes).values()) == 6
    posterior = scorer.score([vote for vote in answers.votes if vote[2] != "skip"]).posterior
    label = dict(enumerate((posterior @ np.array([0.0, 0.5, 1.0])).tolist()))
    summary = quality(answers, truth, label)
    assert summary["votes_a_pair"] < 5
    assert summary["right"] == pytest.approx(posterior.max(axis=1).mean(), abs=0.04)
    assert len(ask(truth, scorer, 6, 0.95, 100, True, 0).votes) == 100
