"""The tutorial of docs/nightly.md, from a CSV to the third night, with its files and commands at a smaller size."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from served import Client, serving
from small_platform import NETWORKS

from prefrec_ray import storage
from prefrec_ray.cli.main import run
from prefrec_ray.nightly.folder import LoopFolder

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "nightly.md").read_text("utf-8").partition("## From a CSV to the third night")[2].partition("\n## ")[0]
DAY_MS = 86_400_000
SMALLER: dict[str, Any] = {
    "prepare": {
        "train_fraction": 0.6,
        "validation_fraction": 0.2,
        "preferences": {"pairs": 64, "validation_pairs": 32, "length": 10, "min_requests": 20},
    },
    "train": {"validation": None, "config": {**NETWORKS, "num_epochs": 0.2, "updates_per_iteration": 4}},
    "evaluate": {"model": {"models": 2, "users": 10, "requests": 30}},
}


def write_history() -> int:
    """Run examples/make_ratings.py for fewer users, and return the number of ratings."""
    script = (DOCS.parent / "examples" / "make_ratings.py").read_text("utf-8")
    for old, new in (("range(800)", "range(40)"), ("rng.integers(80, 160)", "rng.integers(40, 60)")):
        assert script.count(old) == 1
        script = script.replace(old, new)
    subprocess.run([sys.executable, "-c", script], check=True)
    return len(Path("ratings.csv").read_text().splitlines()) - 1


def live(client: Client, begin: int) -> int:
    """Let users, some of them new, come twice in the day from `begin` on, and rate their items."""
    rng, count = np.random.default_rng(begin), 0
    for user in range(21, 61):
        at = begin + int(rng.integers(DAY_MS // 4))
        for _ in range(2):
            shown = client.post("/recommend", user=user, k=int(rng.integers(2, 5)), timestamp=at)
            if shown["arm"] == "main":
                assert shown["policy"] == "popularity"
                assert 0 < min(shown["propensities"]) <= max(shown["propensities"]) < 0.2
            for item in shown["items"]:
                at += 30_000
                rating = {"rating": float(rng.integers(1, 11)) / 2}
                client.post("/feedback", event_id=shown["event_id"], item=item, feedback=rating, timestamp=at)
                count += 1
            at += DAY_MS // 3
    return count


@pytest.mark.parametrize("nights", [3])
def test_the_tutorial(short_fits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nights: int) -> None:
    monkeypatch.chdir(tmp_path)
    ratings = write_history()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    sections = yaml.safe_load(block)
    Path("loop.yaml").write_text(
        yaml.safe_dump({name: sections.get(name, {}) | SMALLER.get(name, {}) for name in {*sections, *SMALLER}})
    )
    serve, nightly, status = (shlex.split(line)[1:] for line in PAGE.splitlines() if line.startswith("prefrec "))
    assert serve[:1] == ["serve"]
    loop, begin, events = LoopFolder(str(tmp_path / "loop")), round(time.time() * 1000) - (nights + 1) * DAY_MS, 0
    with serving(serve[1], serve[3], *serve[4:]) as server:
        client = server.client()
        for number in range(1, nights + 1):
            of_day = live(client, begin + (number - 1) * DAY_MS)
            events += of_day
            assert run(nightly) == 0
            night = loop.nights()[-1]
            assert (night.night, night.log and night.log.requests) == (number, of_day)
            if night.status != "waiting":
                kept = storage.read_json(loop.path(number, "dataset", "dropped.json"))["kept"]
                assert (kept["rows"], kept["users"]) == (ratings + events, 60)
            client = server.client()
            policies = client.post("/reload")["policies"]
            assert (policies["main"] == "popularity") == (not loop.record().promoted)
    assert run(status) == 0
