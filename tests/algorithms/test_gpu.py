"""Updates on a GPU: on a made-up device, and on a real one if there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import learner_of, write_dataset

from prefrec_ray.algorithms import PrefRecConfig


def trained(dataset: str, **more: Any) -> dict[str, np.ndarray]:
    """Return the weights after pre-training and 50 updates of PrefRec, or the number of updates in `more`."""
    config = PrefRecConfig().offline_data(input_=dataset).training(recipe="paper", task="depth")
    config.training(train_batch_size_per_learner=64, preference_batch_size=16, hidden_sizes=(16, 16), pretrain_epochs=1)
    config.training(**{"updates_per_iteration": 25, **more.pop("training", {})})
    algorithm = config.learners(**more).build_algo()
    try:
        while algorithm.train()["updates"] < 50:
            pass
        return learner_of(algorithm).get_state()["rl_module"]["default_policy"]
    finally:
        algorithm.stop()


def test_an_update_mixes_no_devices_and_never_waits_for_one(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", users=8, requests=20, pairs=8, length=4)
    script = Path(__file__).with_name("dry_device.py")
    result = subprocess.run([sys.executable, script, tmp_path / "dataset"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split() == ["PrefRec", "DDPG", "TD3", "SAC", "TD3_BC", "BCQ", "IQL", "IL"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("transitions", ["materialised", "streaming"])
def test_a_gpu_ends_with_the_weights_of_the_processor(tiny_dataset: str, transitions: str) -> None:
    own = {"transitions": transitions}
    expected, weights = trained(tiny_dataset, training=own), trained(tiny_dataset, training=own, num_gpus_per_learner=1)
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=1e-4, err_msg=name)
