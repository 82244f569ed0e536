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
#: A separate disk, visible only to this process; the run's checkpoints do not fit at first.
SCRIPT = """
import subprocess, sys
from pathlib import Path
from prefrec_ray.cli.main import run

disk, small, *train = sys.argv[1:]
if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={small}k", "none", disk]).returncode:
    sys.exit(77)
run_folder = f"{disk}/run"
assert run([*train, run_folder]) == 2
assert not [path for kind in ("partial", "claim") for path in Path(disk).rglob(f"*.{kind}*")]
print("saved", *sorted(path.name for path in Path(run_folder).glob("checkpoint_*")))
subprocess.run(["mount", "-o", "remount,size=64m", "none", disk], check=True)
assert run([*train, run_folder, "--resume"]) == 0
Path("resumed.npz").write_bytes(Path(f"{run_folder}/policy/actor.safetensors").read_bytes())
"""


def test_a_run_on_a_full_disk_stops_and_goes_on(tiny_dataset: str, tmp_path: Path) -> None:
    config, disk = tmp_path / "run.yaml", tmp_path / "disk"
    config.write_text(yaml.safe_dump({"train": CONFIG}))
    disk.mkdir()
    train = f"train {config} --dataset {tiny_dataset} --output".split()
    assert run([*train, f"{tmp_path}/whole"]) == 0
    checkpoint = next((tmp_path / "whole").glob("checkpoint_*"))
    size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
    command = ["unshare", "--mount", sys.executable, "-c", SCRIPT, str(disk), str(int(1.5 * size / 1024)), *train]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("a disk of its own needs the right to mount one")
    assert result.returncode == 0, result.stderr
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("prefrec: error:")]
    assert "Traceback" not in result.stderr
    assert "no space left" in error
    (saved,) = [line.split()[1:] for line in result.stdout.splitlines() if line.startswith("saved")]
    assert saved
    assert f"resuming from iteration {int(saved[-1][-6:])}\n" in result.stdout
    assert (tmp_path / "resumed.npz").read_bytes() == (tmp_path / "whole/policy/actor.safetensors").read_bytes()
