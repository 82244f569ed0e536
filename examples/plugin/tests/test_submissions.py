"""The bench runs the submissions by their names, in a world of this package."""

import json
from pathlib import Path

import pytest

from prefrec_ray.cli.main import run

WORLD = """
simulate: {world: genres, users: 80, requests: 60, items: 30}
prepare:
  source: {kind: simulator, path: logs}
  train_fraction: 0.6
  validation_fraction: 0.2
  preferences: {pairs: 64, validation_pairs: 32, length: 12, min_requests: 30, tasks: [frequency]}
"""
NAMES = ("genres_random", "genres_liked")


def test_the_submissions_are_scored_by_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(WORLD)
    for name in NAMES:
        assert run(["bench", "run", "out", "--submission", name, "--worlds", "small.yaml"]) == 0
    assert run(["bench", "table", "out"]) == 0
    levels = {name: json.loads(Path(f"out/{name}.json").read_text())["results"][0]["levels"] for name in NAMES}
    # The same users and noise: random items are the control, and one item is liked by a third of the users.
    assert levels["genres_random"]["submission"] == levels["genres_random"]["random items"]
    assert levels["genres_liked"]["submission"] < levels["genres_liked"]["best known"]
    rows = [line.split(" | ") for line in Path("out/results.md").read_text().splitlines()[2:]]
    scores = {name.removeprefix("| "): score for name, score, *_ in rows}
    assert set(scores) == {*NAMES, "random items (control)", "popular items (control)"}
    assert scores["genres_random"] == scores["random items (control)"]
