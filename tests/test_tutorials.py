"""The tutorials run as they stand, from their first block to their last: in small here, at their own size by hand."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefrec_ray.cli.main import run
from prefrec_ray.evaluation.records import read_evaluation
from prefrec_ray.evaluation.verdict import verdicts

DOCS = Path(__file__).parents[1] / "docs"
OWN_CSV = (DOCS / "own_csv.md").read_text("utf-8")
#: Replacements that make the CSV tutorial small: numbers on the page and their values here.
SMALL = {
    "range(800)": "range(90)",
    "pairs: 3000": "pairs: 100",
    "    hidden_sizes: [64, 64]": "    num_epochs: 0.5\n    hidden_sizes: [8]",
    "users: 100, requests: 150": "users: 10, requests: 30",
}


def block(text: str, kind: str) -> str:
    (content,) = re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return content


def go_through_own_csv(folder: Path, small: bool) -> None:
    """Writes the files of the page and runs its commands, in this process."""
    code, config = block(OWN_CSV, "python"), block(OWN_CSV, "yaml")
    if small:
        for text, smaller in SMALL.items():
            assert (code + config).count(text) == 1
            code, config = code.replace(text, smaller), config.replace(text, smaller)
    (folder / "my.yaml").write_text(config)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    lines = [line for line in OWN_CSV.splitlines() if line.startswith("prefrec ")]
    assert len(lines) == 8
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, line


def test_own_csv_in_small(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    go_through_own_csv(tmp_path, small=True)
    assert "userId" in (tmp_path / "proposed.yaml").read_text()
    served = json.loads((tmp_path / "run" / "evaluation.json").read_text())["served"]["PrefRec robust"]
    with (tmp_path / "movies.csv").open() as file:
        titles = {int(row["movieId"]): row["title"] for row in csv.DictReader(file)}
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(titles[item["item_id"]] in page for item in served["top_items"][:3])


@pytest.mark.slow
@pytest.mark.ray
def test_own_csv_in_ten_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    go_through_own_csv(tmp_path, small=False)
    assert time.monotonic() - started < 600
    (judged,) = verdicts(read_evaluation(str(tmp_path / "run" / "evaluation.json"))).values()
    assert judged.verdict == "candidate"


@pytest.mark.slow
@pytest.mark.ray
def test_train_and_sweep_in_python(tmp_path: Path) -> None:
    """The blocks of the page are one script."""
    text = (DOCS / "python.md").read_text("utf-8")
    script = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    env = {**os.environ, "PYTHONPATH": str(DOCS.parent), "RAY_AIR_NEW_OUTPUT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert "2 trials" in lines
    assert any(line.startswith("PrefRec robust no_difference") or "cannot_say" in line for line in lines)
    assert (tmp_path / "run" / "policy" / "policy.json").is_file()
