"""Short names that tell runs and policies apart, the same in every table and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def labels(descriptions: Sequence[Mapping[str, Any]], uris: Sequence[str]) -> list[str]:
    """A label for each description (keys method, recipe, task, seed).

    Method and recipe, then task and seed where they differ; where labels would be equal, the `uris`.
    """
    shown = ["method", "recipe", *(key for key in ("task", "seed") if len({str(d.get(key)) for d in descriptions}) > 1)]
    found = [" ".join(_text(key, d[key]) for key in shown if d.get(key) is not None) for d in descriptions]
    return found if len(set(found)) == len(found) else [str(uri).rstrip("/") for uri in uris]


def _text(key: str, value: Any) -> str:
    return f"seed {value}" if key == "seed" else str(value)
