"""Learners grow when a node joins, at the end of an epoch, and shrink when it leaves, with the same weights."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from patience import soon, until
from tiny import SHORT_RUN

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import start_run
from prefrec_ray.runtime import count_free

SETTINGS: dict[str, Any] = {
    "task": "depth",
    "checkpoint_every": 1,
    "config": {
        **SHORT_RUN,
        "num_epochs": 4,
        "serving": {"temperature": 0.2, "variety": 1.0, "repetition": 0.0, "scores": "q"},
    },
}


def with_learners(**learners: Any) -> dict[str, Any]:
    return {**SETTINGS, "config": {**SETTINGS["config"], **learners}}


@pytest.mark.cluster
@pytest.mark.timeout(600)  # Ray starts three times
def test_learners_come_and_go_with_nodes(tiny_dataset: str, tmp_path: Path) -> None:
    """The run ends with the weights of one learner, up to the order of sums."""
    start_run(TrainSettings(**SETTINGS), tiny_dataset, str(tmp_path / "one"))
    command = [sys.executable, str(Path(__file__).with_name("run_on_nodes.py"))]
    command += [json.dumps(with_learners(num_learners=1, max_learners=2)), tiny_dataset, str(tmp_path / "run")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=soon(500))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    # The first iteration is the pre-training, further ones have 5 of an epoch's 18 mini-batches. The node joins after 3
    # iterations, epoch 0 ends in iteration 5, and the node leaves after 10 iterations.
    assert result["learners"] == [1] * 5 + [2] * 5 + [1] * (len(result["learners"]) - 10)
    assert result["changes"] == [[1, 2, True]]
    assert [line.partition(": ")[0] for line in result["lines"][:1]] == ["failure 1 of at most 3"]
    one, several = (storage.read_arrays(str(tmp_path / run / "policy/actor.safetensors")) for run in ("one", "run"))
    assert one.keys() == several.keys()
    for name in one:
        np.testing.assert_allclose(several[name], one[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("learners", "expected"),
    [
        ({"max_learners": 2}, "expected null, or num_learners of at least 1, found 2"),
        (
            {"num_learners": 3, "max_learners": 2, "train_batch_size_per_learner": 4},
            "expected 3 (num_learners) to 12 (transitions in a mini-batch), found 2",
        ),
        (
            {"num_learners": 2, "max_learners": 9, "train_batch_size_per_learner": 4},
            "expected 2 (num_learners) to 8 (transitions in a mini-batch), found 9",
        ),
    ],
)
def test_a_range_without_learners(learners: dict[str, int], expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"max_learners': {expected}")):
        TrainSettings(**with_learners(**learners)).training()


@pytest.mark.parametrize(
    ("need", "most", "expected"),
    [({"CPU": 1, "GPU": 0}, 3, 2), ({"CPU": 1}, 1, 1), ({"CPU": 1.5}, 2, 1), ({"spot": 1}, 2, 0), ({"CPU": 1}, 0, 0)],
)
def test_free_resources_are_counted_by_process(
    ray_session: None, need: dict[str, float], most: int, expected: int
) -> None:
    until(lambda: ray.available_resources().get("CPU") == 2, 60)  # reserved by the test before
    assert count_free(need, most) == expected
