"""Names and explanations that several pages and tables share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Titles of estimators, in the order of tables.
TITLES = {
    "online": "true level",
    "model": "model of users",
    "dr": "doubly robust",
    "fqe": "fitted-Q",
    "preference": "preference",
    "weights": "importance weights",
    "sips": "SIPS",
    "rips": "RIPS",
    "iips": "IIPS",
    "ncis": "NCIS",
}


def serving_rule(provenance: Mapping[str, Any]) -> str:
    """Return the serving rule of a policy in words; temperature and penalties only if it draws its items."""
    window = ("repetition_window",) if provenance.get("repetition") else ()
    drawn = ("temperature", "variety", "repetition", *window)
    keys = ("rule", "scores", *(drawn if provenance.get("rule") == "sample" else ()))
    known = {key: provenance[key] for key in keys if provenance.get(key) is not None}
    return ", ".join(
        f"{key.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
        for key, value in known.items()
    )
