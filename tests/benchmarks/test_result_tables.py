"""Tables of result pages hold what the files of figures beside them hold."""

from __future__ import annotations

import csv
import json
from statistics import mean

import pytest

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
    assert [[row[0], row[1], *row[4:8]] for row in rows] == measured
    nights = json.loads((RESULTS / "loop.json").read_text("utf-8"))["nights"]
    assert [row[8] for row in rows] == [
        "" if night["estimated gain"] is None else f"{float(night['estimated gain']):.2f}" for night in nights
    ]


def test_crowd() -> None:
    """Accuracies: the mean over seeds after each epoch, and each seed's after the last one."""
    labels = json.loads((RESULTS / "crowd.json").read_text("utf-8"))["labels"]
    rows = table("crowd", "labels")
    assert len(rows) == len(labels)
    for name, *cells in rows:
        votes, _, way = name.replace("`", "").partition(" votes, ")
        accuracy = labels["truth" if name == "truth" else f"{way}_{votes}_votes"]["accuracy"]
        epochs = [mean(epoch) for epoch in zip(*accuracy, strict=True)]
        figures = [
            *(cell.removesuffix(" %") for cell in (text.strip("* ") for text in cells[:3])),
            *cells[3].split(" / "),
        ]
        assert [float(text) / 100 for text in figures] == pytest.approx(
            epochs + [seed[-1] for seed in accuracy], abs=6e-4
        )
