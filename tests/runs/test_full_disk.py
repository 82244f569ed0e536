"""A run whose disk is full stops with one line, and goes on when there is room, as if it had never stopped."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_disk import small_disk

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


def test_a_run_on_a_full_disk_stops_and_goes_on(
    tiny_dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, disk = tmp_path / "run.yaml", tmp_path / "disk"
    config.write_text(yaml.safe_dump({"train": CONFIG}))
    train = f"train {config} --dataset {tiny_dataset} --output".split()
    assert run([*train, f"{tmp_path}/whole"]) == 0
    checkpoint = next((tmp_path / "whole").glob("checkpoint_*"))
    size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
    capsys.readouterr()
    with small_disk(disk, kilobytes=int(1.5 * size / 1024)):
        assert run([*train, f"{disk}/run"]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith("prefrec: error:")
        assert "no space left" in error
        assert not [path for kind in ("partial", "claim") for path in disk.rglob(f"*.{kind}*")]
        saved = sorted(path.name for path in (disk / "run").glob("checkpoint_*"))
        assert saved
        subprocess.run(["mount", "-o", "remount,size=64m", "none", str(disk)], check=True)
        assert run([*train, f"{disk}/run", "--resume"]) == 0
        assert f"resuming from iteration {int(saved[-1][-6:])}\n" in capsys.readouterr().out
        resumed = (disk / "run/policy/actor.safetensors").read_bytes()
    assert resumed == (tmp_path / "whole/policy/actor.safetensors").read_bytes()
