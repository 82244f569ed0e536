"""A law and the method of docs/add_a_method.md in a user's own files: all commands work with them, nothing changed."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import ray
from own_law import LAW

ROOT = Path(__file__).parents[1]
#: A small run, whose serving rule is not chosen by roll-outs.
SMALL = (
    "hidden_sizes: [8], train_batch_size_per_learner: 64, preference_batch_size: 16, pretrain_epochs: 0.5, "
    "serving: {temperature: 0.2, variety: 1.0, repetition: 0.0, scores: q}"
)
#: The other sections. Without a number of trials at once, Ray would start a process for each.
SECTIONS = f"""
simulate: {{users: 60, requests: 30, items: 30, seed: 4, truth: true, world: "colors_law:Colors"}}
prepare:
  source: {{kind: simulator, path: logs}}
  train_fraction: 0.6
  validation_fraction: 0.2
  preferences: {{pairs: 60, validation_pairs: 20, length: 10, min_requests: 25, tasks: [frequency]}}
tune:
  method: [my_package.mine:CQL]
  task: frequency
  search: {{conservatism: {{grid: [0.1, 1.0]}}}}
  base: {{num_epochs: 0.2, {SMALL}}}
  validation: {{every: 1, estimators: [ncis]}}
  metric: cql/gap
  max_concurrent: 1
"""
TRIALS = ("CQL_frequency_0_000", "CQL_frequency_0_001")
#: Commands one after another in a process, which imports this package once.
SCRIPT = """
import sys
from prefrec_ray.cli.main import run
from short_fits import limited_fits
with limited_fits():
    print("statuses", *[run(line.split()) for line in sys.argv[1:]], "torch._dynamo" in sys.modules)
"""
#: The first is valid, the next three are not.
COMMANDS = (
    *(f"validate {file}" for file in ("own.yaml", "bad.yaml", "none.yaml", "file.yaml")),
    "simulate own.yaml --output logs",
    "prepare own.yaml --output data",
    "train own.yaml validation=null --dataset data --output run",
    "tune own.yaml --dataset data --output sweep",
    "evaluate sweep --dataset data --estimators ncis --online",
    "report sweep --output pages/new/sweep.html",
)


def write_files(folder: Path) -> None:
    """Write the user's working folder: the law, the example of the page, and YAMLs that name them."""
    code = (ROOT / "examples" / "cql.py").read_text()
    yaml = re.search(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "add_a_method.md").read_text(), re.S | re.M)[1]
    assert len(code.splitlines()) <= 60
    (folder / "colors_law.py").write_text(LAW)
    (folder / "my_package").mkdir()
    (folder / "my_package" / "mine.py").write_text(code)
    train = yaml.replace("{conservatism: 0.5}", f"{{conservatism: 0.5, num_epochs: 0.5, {SMALL}}}")
    own = train.replace("task: depth", "task: frequency") + SECTIONS
    (folder / "own.yaml").write_text(own)
    (folder / "bad.yaml").write_text(own.replace("conservatism: 0.5", "conservatism: -1"))
    (folder / "none.yaml").write_text("train: {method: my_package.mine:CQLSettings}\n")
    (folder / "file.yaml").write_text("train: {method: './my_package/mine.py:CQL'}\n")


def test_all_commands_work_with_own_files(ray_session: None, tmp_path: Path) -> None:
    """In a process of its own, whose working folder Ray passes on to workers."""
    write_files(tmp_path)
    path = os.pathsep.join(str(folder) for folder in (ROOT, Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": path, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    command = [sys.executable, "-c", SCRIPT, *COMMANDS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "statuses 0 2 2 2 0 0 0 0 0 0 False", done.stderr
    of_bad, of_none, of_file, joined = done.stderr.splitlines()  # and none of own.yaml
    assert "bad.yaml: train: key 'config.conservatism'" in of_bad
    assert "'my_package.mine:CQLSettings' is not a method" in of_none
    assert "key 'method': found './my_package/mine.py:CQL'; expected module:Class" in of_file
    assert joined.startswith("prefrec: joined the Ray cluster")

    assert json.loads((tmp_path / "logs" / "log.json").read_text())["item_features"] == ["color"]
    assert pq.read_schema(tmp_path / "logs" / "items.parquet").names == ["item_id", "color"]
    about = json.loads((tmp_path / "run/policy/policy.json").read_text())["provenance"]
    assert about["method"] == "my_package.mine:CQL"
    records = json.loads((tmp_path / "sweep/evaluation.json").read_text())["records"]
    policies = [record for record in records if record["role"] == "policy"]
    assert {record["method"] for record in policies} == {"my_package.mine:CQL"}
    assert {record["bundle"] for record in policies} == {f"sweep/policies/{trial}" for trial in TRIALS}
    # After every session the user is back in an hour instead of sometimes a day.
    levels = {record["subject"]: record["value"] for record in records if record["estimator"] == "online"}
    assert levels["best known"] > 3 > levels["behaviour"]

    with open(tmp_path / "sweep/trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["trial"], row["status"], row["conservatism"]) for row in rows] == [
        (TRIALS[0], "finished", "0.1"),
        (TRIALS[1], "finished", "1.0"),
    ]
    assert all(math.isfinite(float(row["validation/ncis"])) for row in rows)
    assert rows[0]["losses/qf_loss"] != rows[1]["losses/qf_loss"]
    gaps = {row["trial"]: float(row["cql/gap"]) for row in rows}
    best = max(gaps, key=lambda trial: gaps[trial])
    assert f"best for frequency: {best}, cql/gap {gaps[best]:.4g} (one seed)" in done.stdout
    assert f"  policy: sweep/policies/{best}\n" in done.stdout
    for progress in ("run/progress.csv", f"sweep/{best}/progress.csv"):
        with open(tmp_path / progress) as file:
            last = list(csv.DictReader(file))[-1]
        assert math.isfinite(float(last["cql/gap"]))
        assert not {name for name in last if "learning_rate" in name or "parameters" in name}

    page = (tmp_path / "pages/new/sweep.html").read_text()
    for title in ("true level", "NCIS"):
        assert f">{title}</th>" in page
    for row in ("conservatism=0.1", "conservatism=1", "best known (control)", "random items (negative control)"):
        assert f">{row}</td>" in page
