"""The method of docs/add_a_method.md, in a user's own file: it trains, sweeps and is evaluated with nothing changed."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray

PAGE = Path(__file__).parents[2] / "docs" / "add_a_method.md"
#: A small run, whose serving rule is not chosen by roll-outs.
SMALL = (
    "hidden_sizes: [8], train_batch_size_per_learner: 64, preference_batch_size: 16, pretrain_epochs: 0.5, "
    "serving: {temperature: 0.2, variety: 1.0, repetition: 0.0, scores: q}"
)

#: Commands one after another in a process, which imports this package once.
SCRIPT = """
import sys
from prefrec_ray.cli.main import run
print("statuses", *[run(line.split()) for line in sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def folder(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the user's working folder: the example, and a YAML that names it."""
    folder = tmp_path_factory.mktemp("own")
    code = (PAGE.parents[1] / "examples" / "cql.py").read_text()
    yaml = re.search(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.S | re.M)[1]
    assert len(code.splitlines()) <= 60
    (folder / "my_package").mkdir()
    (folder / "my_package" / "mine.py").write_text(code)
    longer = yaml.replace("{conservatism: 0.5}", f"{{conservatism: 0.5, num_epochs: 0.5, {SMALL}}}")
    sweep = (
        "tune:\n  method: [my_package.mine:CQL]\n  task: depth\n  search: {conservatism: {grid: [0.1, 1.0]}}\n"
        f"  base: {{num_epochs: 0.2, {SMALL}}}\n  validation: null\n  metric: cql/gap\n  max_concurrent: 1\n"
    )
    (folder / "own.yaml").write_text(longer + sweep)
    return folder


@pytest.fixture(scope="module")
def done(folder: Path, small_platform: Path) -> subprocess.CompletedProcess[str]:
    """Run commands in the user's folder: one that is valid, three that are not, then training, a sweep, evaluation."""
    (folder / "bad.yaml").write_text((folder / "own.yaml").read_text().replace("conservatism: 0.5", "conservatism: -1"))
    (folder / "none.yaml").write_text("train: {method: my_package.mine:CQLSettings}\n")
    (folder / "file.yaml").write_text("train: {method: './my_package/mine.py:CQL'}\n")
    dataset = small_platform / "dataset"
    lines = (
        *(f"validate {file}" for file in ("own.yaml", "bad.yaml", "none.yaml", "file.yaml")),
        f"train own.yaml validation=null --dataset {dataset} --output run",
        f"tune own.yaml --dataset {dataset} --output sweep",
        f"evaluate run/policy --dataset {dataset} --estimators ncis",
    )
    path = f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": path, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    command = [sys.executable, "-c", SCRIPT, *lines]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert result.stdout.splitlines()[-1] == "statuses 0 2 2 2 0 0 0", result.stderr
    return result


def test_validate_knows_its_settings(done: subprocess.CompletedProcess[str]) -> None:
    of_bad, of_none, of_file, joined = done.stderr.splitlines()  # and none of own.yaml
    assert "bad.yaml: train: key 'config.conservatism'" in of_bad
    assert "'my_package.mine:CQLSettings' is not a method" in of_none
    assert "key 'method': found './my_package/mine.py:CQL'; expected module:Class" in of_file
    assert joined.startswith("prefrec: joined the Ray cluster")


def test_it_trains_sweeps_and_is_evaluated(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    about = json.loads((folder / "run/policy/policy.json").read_text())["provenance"]
    assert about["method"] == "my_package.mine:CQL"
    with open(folder / "sweep/trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["trial"], row["status"], row["conservatism"]) for row in rows] == [
        ("CQL_depth_0_000", "finished", "0.1"),
        ("CQL_depth_0_001", "finished", "1.0"),
    ]
    assert rows[0]["losses/qf_loss"] != rows[1]["losses/qf_loss"]
    gaps = {row["trial"]: float(row["cql/gap"]) for row in rows}
    best = max(gaps, key=lambda trial: gaps[trial])
    assert f"best for depth: {best}, cql/gap {gaps[best]:.4g} (one seed)" in done.stdout
    assert f"  policy: sweep/policies/{best}\n" in done.stdout
    for progress in ("run/progress.csv", f"sweep/{best}/progress.csv"):
        with open(folder / progress) as file:
            last = list(csv.DictReader(file))[-1]
        assert math.isfinite(float(last["cql/gap"]))
        assert not {name for name in last if "learning_rate" in name or "parameters" in name}
    records = json.loads((folder / "run/evaluation.json").read_text())["records"]
    assert "my_package.mine:CQL" in {record["method"] for record in records}
