"""The short table that ends an evaluation: true levels where they are known, NCIS beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

STYLES = {"policy": "bold cyan", "control": "", "placebo": "dim"}


def summary(records: Sequence[dict[str, Any]], task: str) -> Table:
    """One row a subject, best first: by true level (`online`) if there is any, else by NCIS."""
    found: dict[str, dict[str, dict[str, Any]]] = {"online": {}, "ncis": {}}
    for record in records:
        if record["task"] == task:
            found[record["estimator"]][record["subject"]] = record
    online, ncis = found["online"], found["ncis"]
    first = online or ncis
    table = Table(box=None, pad_edge=False)
    for column in [f"{task} level", *(["true, with 95 % interval"] if online else []), "NCIS", "kind"]:
        table.add_column(column)
    for name, record in sorted(first.items(), key=lambda pair: -pair[1]["value"]):
        if name.startswith(("shuffled:", "length only:")):
            continue
        cells = [_value(online[name])] if online else []
        estimate = _value(ncis[name]) if name in ncis else _behaviour(ncis) if name == "behaviour" else ""
        table.add_row(name, *cells, estimate, record["role"], style=STYLES[record["role"]])
    return table


def _value(record: dict[str, Any]) -> str:
    text = f"{record['value']:.2f}"
    if record["ci_low"] is None:
        return text
    return f"{text} \\[{record['ci_low']:.2f}, {record['ci_high']:.2f}]"


def _behaviour(ncis: dict[str, dict[str, Any]]) -> str:
    return f"{next(iter(ncis.values()))['behaviour']:.2f}" if ncis else ""
