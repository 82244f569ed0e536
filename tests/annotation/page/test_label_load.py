"""Many at once, and killed meanwhile: no acknowledged vote is lost, none doubled (benchmarks/speed/labeling.py)."""

from pathlib import Path

import pytest
from hand_store import write_store

from benchmarks.speed import labeling


def test_a_team_at_once_and_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeling, "LOOK", 0.05)
    store = tmp_path / "store"
    write_store(store, pairs=400)
    killed = labeling.load(str(store), 12, 60.0, 2.0)
    assert killed["acknowledged"] > 12
    assert (killed["lost"], killed["doubled"]) == (0, 0)
    results = labeling.load(str(store), 12, 2.0)
    assert results["acknowledged"] > 50
    assert (results["lost"], results["doubled"]) == (0, 0)
