"""A crowd whose answers go through `prefrec import-labels` and come back as labels of the same pairs."""

from pathlib import Path

import numpy as np
import pytest
from tiny import write, write_dataset

from benchmarks.truth import crowd
from prefrec_ray.annotation.store import import_labels
from prefrec_ray.errors import UserError


def test_what_all_say_comes_back(ray_session: None, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dataset(source, users=8, requests=20, pairs=40, length=4)
    write(source / "sessions/part-00000.parquet", {"user_id": range(8), "depth": [20] * 8, "split": ["train"] * 8})
    copy = crowd.small_copy(str(source), tmp_path / "work")
    with pytest.raises(UserError, match="expected a folder WORK that is new"):
        crowd.small_copy(str(source), tmp_path / "work")
    pairs, truth = crowd.true_pairs(copy, "depth", crowd.TRUTH, 30)
    assert len(truth) == pairs.num_rows > 10
    exact = crowd.Crowd(
        np.arange(len(truth)), np.zeros(len(truth), int), crowd.WORDS[(2 * truth).astype(int)], np.ones(1)
    )
    questions, answers = crowd.ask(pairs, exact, tmp_path / "questions")
    import_labels(answers, questions, copy.uri, "truth", "mean", False, crowd.quiet)
    np.testing.assert_array_equal(crowd.imported(copy, "truth", pairs), truth)
