"""The short table that ends an evaluation: true levels where they are known, estimates beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

TITLES = {"online": "true, with 95 % interval", "dr": "doubly robust", "fqe": "fitted-Q", "ncis": "NCIS"}
STYLES = {"policy": "bold cyan", "control": "", "placebo": "dim"}


def summary(records: Sequence[dict[str, Any]], task: str) -> Table:
    """One row a subject, best first by the first of `TITLES` that there is."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in records:
        if record["task"] == task:
            found.setdefault(record["estimator"], {})[record["subject"]] = record
    shown = [estimator for estimator in TITLES if estimator in found]
    table = Table(box=None, pad_edge=False)
    for column in [f"{task} level", *(TITLES[estimator] for estimator in shown), "kind"]:
        table.add_column(column)
    first = found[shown[0]]
    for name, record in sorted(first.items(), key=lambda pair: -pair[1]["value"]):
        if name.startswith(("shuffled:", "length only:")):
            continue
        cells = [_cell(found[estimator], name) for estimator in shown]
        table.add_row(name, *cells, record["role"], style=STYLES[record["role"]])
    return table


def _cell(lines: dict[str, dict[str, Any]], name: str) -> str:
    if name in lines:
        return _value(lines[name])
    return f"{next(iter(lines.values()))['behaviour']:.2f}" if name == "behaviour" else ""


def _value(record: dict[str, Any]) -> str:
    text = f"{record['value']:.2f}"
    if record["ci_low"] is None:
        return text
    return f"{text} [{record['ci_low']:.2f}, {record['ci_high']:.2f}]"
