"""Tables of result pages match their files of figures."""

from __future__ import annotations

import csv
import json
from statistics import mean

from benchmarks.results import RESULTS


def table(page: str, first: str) -> list[list[str]]:
    """The cells of the rows of the table whose first head is `first`, without its heads."""
    lines = (RESULTS / f"{page}.md").read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip(" *`") for cell in line.strip().strip("|").split("|")])
    return rows


def test_nights() -> None:
    columns = ("night", "verdict", "logging policy", "loop", "nutrition (best known)", "share of the best")
    with (RESULTS / "loop.csv").open(newline="") as file:
        measured = [[row[column] for column in columns] for row in csv.DictReader(file)]
    rows = table("loop", "night")
    assert [[row[0], row[1], *row[3:7]] for row in rows] == measured
    nights = json.loads((RESULTS / "loop.json").read_text("utf-8"))["nights"]
    assert [row[7] for row in rows] == [f"{night['estimated gain']:.2f}" for night in nights]


def test_days_of_a_canary() -> None:
    measured = []
    for name in ("loop_canary", "loop_harmful"):
        with (RESULTS / f"{name}.csv").open(newline="") as file:
            measured.append(list(csv.DictReader(file)))
    columns = ("day", "status", "look", "users", "logging", "loop")
    expected = [
        [*(row[column] for column in columns), harmful["loop"], row["best"]]
        for row, harmful in zip(*measured, strict=True)
    ]
    assert table("loop", "day") == expected


def test_crowd() -> None:
    """Share of labels on the true side, and the mean accuracy over seeds after the last epoch."""
    labels = json.loads((RESULTS / "crowd.json").read_text("utf-8"))["labels"]
    rows = table("labeling", "labels")
    assert len(rows) == len(labels)
    for name, right, accuracy in rows:
        votes, _, way = name.replace("`", "").partition(" votes per pair, ")
        measured = labels["truth" if name == "truth" else f"{way}_{votes}_votes"]
        assert accuracy == f"{100 * mean(seed[-1] for seed in measured['accuracy']):.1f} %"
        assert right == (f"{100 * measured['aggregated']:.1f} %" if "aggregated" in measured else "")
