"""A run whose disk is full stops with one line, and goes on when there is room, as if it had never stopped."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from prefrec_ray.cli.main import run

CONFIG: dict[str, Any] = {
    "task": "depth",
    "checkpoint_every": 1,
    "config": {
        "train_batch_size_per_learner": 64,
        "preference_batch_size": 16,
        "hidden_sizes": [64, 64],
        "updates_per_iteration": 5,
        "pretrain_epochs": 1,
        "num_epochs": 1,
    },
}
#: A separate disk, visible only to this process and its children; the run's checkpoints do not fit at first.
SCRIPT = """
mount -t tmpfs -o size={small}k none {disk} || exit 77
{prefrec} {disk}/run 2> {folder}/full
echo $? > {folder}/status
find {disk} -name '*.partial*' -o -name '*.claim*' > {folder}/left
ls {disk}/run > {folder}/before
mount -o remount,size=64m none {disk}
{prefrec} {disk}/run --resume > {folder}/said || exit 1
cp {disk}/run/policy/actor.npz {folder}/resumed.npz
"""


def test_a_run_on_a_full_disk_stops_and_goes_on(tiny_dataset: str, tmp_path: Path) -> None:
    config, disk = tmp_path / "run.yaml", tmp_path / "disk"
    config.write_text(yaml.safe_dump({"train": CONFIG}))
    disk.mkdir()
    train = f"train {config} --dataset {tiny_dataset} --output"
    assert run([*train.split(), f"{tmp_path}/whole"]) == 0
    checkpoint = next((tmp_path / "whole").glob("checkpoint_*"))
    size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
    prefrec = f"{sys.executable} -m prefrec_ray.cli.main {train}"
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    script = SCRIPT.format(disk=disk, folder=tmp_path, prefrec=prefrec, small=int(1.5 * size / 1024))
    result = subprocess.run(["unshare", "--mount", "sh", "-c", script], env=environment, capture_output=True, text=True)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("a disk of its own needs the right to mount one")
    assert result.returncode == 0, result.stderr
    output = (tmp_path / "full").read_text()
    lines = [line for line in output.splitlines() if line.startswith("prefrec: error:")]
    assert len(lines) == 1
    assert "Traceback" not in output
    assert "no space left" in lines[0]
    assert (tmp_path / "status").read_text().strip() == "2"
    assert (tmp_path / "left").read_text() == ""
    saved = [line for line in (tmp_path / "before").read_text().split() if line.startswith("checkpoint_")]
    assert saved
    assert f"resuming from iteration {int(saved[-1][-6:])}\n" in (tmp_path / "said").read_text()
    assert (tmp_path / "resumed.npz").read_bytes() == (tmp_path / "whole/policy/actor.npz").read_bytes()
