"""The commands of the README on small logs, and the tutorials at their own size, by hand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from short_fits import limited_fits

from prefrec_ray.cli.main import run
from prefrec_ray.evaluation.results.records import read_evaluation
from prefrec_ray.evaluation.results.verdict import verdicts
from prefrec_ray.evaluation.selection import model_score
from prefrec_ray.evaluation.settings import ModelSettings

DOCS = Path(__file__).parents[1] / "docs"
README = (DOCS.parent / "README.md").read_text("utf-8")
OWN_CSV = (DOCS / "own_csv.md").read_text("utf-8")


def block(text: str, kind: str) -> str:
    (content,) = re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return content


def movies(folder: Path) -> None:
    """Write files like MovieLens: ratings.csv, and movies.csv with titles and genres of all movies except one."""
    rng = np.random.default_rng(0)
    genres = ["Action|Comedy", "Comedy", "Drama", "Drama|Horror"]
    titles = pd.DataFrame({"movieId": range(59), "title": [f"Film, the {k}th" for k in range(59)]})
    titles.assign(genres=[genres[k % 4] for k in range(59)]).to_csv(folder / "movies.csv", index=False)
    frames = [pd.DataFrame({"userId": user, "movieId": rng.permutation(60)[:36]}) for user in range(40)]
    ratings = pd.concat(frames).assign(rating=rng.integers(1, 11, 40 * 36) / 2)
    ratings.assign(timestamp=1_100_000_000 + moments(rng)).to_csv(folder / "ratings.csv", index=False)


def music(folder: Path) -> None:
    """Write the log of a music player: text ids, an artist, ISO times, milliseconds played."""
    rng = np.random.default_rng(1)
    track = rng.integers(0, 60, 40 * 36)
    plays = {
        "user": [f"u{row // 36}" for row in range(len(track))],
        "track": [f"track {k}" for k in track],
        "artist": [f"artist {k % 9}" for k in track],
        "timestamp": pd.to_datetime(1_600_000_000 + moments(rng), unit="s").strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ms_played": rng.integers(0, 240_000, len(track)),
    }
    pd.DataFrame(plays).to_csv(folder / "plays.csv", index=False)


def moments(rng: np.random.Generator) -> np.ndarray:
    """Seconds of 36 impressions of each of 40 users, in sessions of some minutes."""
    return rng.choice([60, 300, 20_000, 90_000], (40, 36), p=[0.5, 0.25, 0.15, 0.1]).cumsum(axis=1).ravel()


@pytest.fixture
def short_fits(ray_session: None) -> Iterator[None]:
    """For one test: in conftest.py they are for a module, and would change the verdict of the tutorial below."""
    with limited_fits():
        yield


@pytest.mark.parametrize("log", [movies, music])
def test_the_commands_of_the_readme(
    short_fits: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log: Callable[[Path], None],
) -> None:
    """Word by word, with the YAML that the first command writes, for smaller networks and fewer roll-outs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_score, "SETTINGS", ModelSettings(models=2, users=8, requests=30))
    log(tmp_path)
    lines = [line for line in README.splitlines() if line.startswith("prefrec ")]
    assert [line.split()[1] for line in lines] == ["inspect", "prepare", "train", "evaluate", "report"]
    for line in lines:
        words = shlex.split(
            line if log is movies else line.replace("ratings.csv movies.csv", "plays.csv"), comments=True
        )
        assert run(words[1:]) == 0, line
        if words[1] == "inspect":
            assert run(["validate", "my.yaml"]) == 0
            sections = yaml.safe_load(Path("my.yaml").read_text())
            assert list(sections) == ["prepare", "train", "evaluate"]
            sections["train"]["config"] = {**sections["train"].get("config", {}), "hidden_sizes": [16], "num_epochs": 1}
            sections["evaluate"]["model"] = {"models": 2, "users": 8, "requests": 30}
            Path("my.yaml").write_text(yaml.safe_dump(sections))
    out = capsys.readouterr().out
    assert re.search(r"^group by user  1/1 files  \d+\.\d s$", out, re.MULTILINE)
    source = sections["prepare"]["source"]
    evaluation = read_evaluation("RUN/evaluation.json")
    policy = [record for record in evaluation.records if record.role == "policy"]
    assert {record.estimator for record in policy} == {"model", "ncis"}
    assert set(evaluation.verdicts) == set(evaluation.support) == {record.subject for record in policy}
    page = (tmp_path / "RUN" / "report.html").read_text()
    if log is movies:
        assert source["items"] == {"path": "movies.csv", "id": "movieId", "title": "title", "features": ["genres"]}
        assert "Film, the " in page
    else:
        assert source["feedback"] == {"ms_played": {"column": "ms_played", "kind": "seconds"}}
        assert "track " in page


@pytest.mark.timeout(600)
@pytest.mark.ray
def test_own_csv_in_ten_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the page, and its commands in this process."""
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    (tmp_path / "my.yaml").write_text(block(OWN_CSV, "yaml"))
    subprocess.run([sys.executable, str(DOCS.parent / "examples" / "make_ratings.py")], check=True)
    lines = [line for line in OWN_CSV.splitlines() if line.startswith("prefrec ")]
    assert len(lines) == 6
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, line
    assert time.monotonic() - started < 600
    evaluation = read_evaluation(str(tmp_path / "run" / "evaluation.json"))
    ((policy, judged),) = verdicts(evaluation).items()
    # weights that differ in their last digits, from another kind of processor, decide which of them, as the page says
    assert judged.verdict in ("candidate", "inconclusive")
    level = {record.subject: record.value for record in evaluation.records if record.estimator == "model"}
    controls = {
        record.subject: record.value
        for record in evaluation.records
        if record.estimator == "model" and record.role != "policy"
    }
    assert {"behaviour", "constant action"} < controls.keys()
    assert level[policy] > 2 > max(controls.values())


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
    assert any(line.startswith("PrefRec robust no_difference") or "inconclusive" in line for line in lines)
    assert (tmp_path / "run" / "policy" / "policy.json").is_file()
