"""Votes of a crowd: labels of the same pairs, one vote per annotator and pair, and calibrated posteriors."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny import write, write_dataset

from benchmarks.truth import crowd
from prefrec_ray.annotation.aggregate import one_coin
from prefrec_ray.annotation.labels import WORDS
from prefrec_ray.errors import UserError


def test_labels_of_the_truth_are_the_truth(ray_session: None, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dataset(source, users=8, requests=20, pairs=40, length=4)
    write(source / "sessions/part-00000.parquet", {"user_id": range(8), "depth": [20] * 8, "split": ["train"] * 8})
    copy = crowd.small_copy(str(source), tmp_path / "work")
    with pytest.raises(UserError, match="expected a folder WORK that is new"):
        crowd.small_copy(str(source), tmp_path / "work")
    pairs, truth = crowd.true_pairs(copy, "depth", crowd.TRUTH, 30)
    assert len(truth) == pairs.num_rows > 10
    exact = [(pair, "truth", crowd.LABELS[preferred]) for pair, preferred in truth.items()]
    assert crowd.labels_of(exact, pairs, copy, "truth", "mean") == truth
    votes = crowd.Crowd(seed=0).fixed(truth, 5)
    assert Counter(pair for pair, _, _ in votes) == dict.fromkeys(truth, 5)
    label = crowd.labels_of(votes, pairs, copy, "crowd", "one-coin")
    assert 0.6 < crowd.quality(votes, truth, label)["aggregated"] < 1


def test_a_page_asks_until_it_is_sure() -> None:
    rng = np.random.default_rng(0)
    truth = dict(enumerate(rng.choice([0.0, 1.0], 120).tolist()))
    settings = crowd.PAGE.model_copy(update={"votes": 6})
    votes = crowd.Crowd(seed=0).asked(truth, 10**9, settings, rescore=60)
    assert max(Counter((pair, who) for pair, who, _ in votes).values()) == 1
    assert max(Counter(pair for pair, _, _ in votes).values()) == 6
    judged = [vote for vote in votes if vote[2] != "skip"]
    pair = np.array([pair for pair, _, _ in judged])
    annotator = np.unique([who for _, who, _ in judged], return_inverse=True)[1]
    label = one_coin(pair, annotator, np.array([WORDS[label] for _, _, label in judged]), 120).label
    summary = crowd.quality(votes, truth, dict(enumerate(label.tolist())))
    assert summary["votes_per_pair"] < 5
    assert summary["aggregated"] == pytest.approx(np.maximum(label, 1 - label).mean(), abs=0.06)
    assert len(crowd.Crowd(seed=0).asked(truth, 100)) == 100
