"""SIGTERM, as a scheduler sends it: one line, the status that shells know, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import ray
import yaml
from patience import soon


def test_sigterm_is_one_line_and_143_and_leaves_nothing(ray_session: None, tmp_path: Path) -> None:
    config, logs = tmp_path / "world.yaml", tmp_path / "made" / "logs"
    config.write_text(yaml.safe_dump({"simulate": {"users": 200_000, "requests": 1_000}}))
    process = subprocess.Popen(
        [sys.executable, "-m", "prefrec_ray.cli.main", "simulate", str(config), "--output", str(logs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
    )
    limit = time.monotonic() + soon(60)
    while not any(logs.parent.rglob("*.parquet*")):  # Ray runs, and tasks write
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate(timeout=soon(60))
    assert process.returncode == 143
    joined, *lines = err.splitlines()
    assert joined.startswith("prefrec: joined the Ray cluster")
    assert lines == ["prefrec: terminated"]
    assert not list(logs.parent.iterdir())
