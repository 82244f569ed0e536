"""What `tastes` knows: a row for each server and baseline."""

from pathlib import Path

import pytest

from benchmarks.truth import tastes


def test_clicks_point_to_clickbait_and_likes_with_the_mood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tastes.main(tmp_path, users=60, log=120, requests=40)["rows"]
    assert [(row["baseline"], row["shown by"], row["requests"]) for row in rows] == [
        (baseline, name, requests)
        for name, requests in (("logging policy", 120), ("logging policy", 160), ("nutrition", 160))
        for baseline in ("recent", "all")
    ]
    for row in rows:
        assert 0.4 < float(row["click"]) < 1.0
        assert float(row["watch_ratio"]) > 0.1 or row["baseline"] == "all"
    likes = [float(row["like"]) for row in rows]
    assert max(abs(value) for value in likes[::2]) < 0.15
    assert max(likes[1::2]) < -0.2
    assert (tmp_path / "tastes.csv").read_text().count("\n") == 7
    assert "| recent | nutrition |" in capsys.readouterr().out
