"""Other definitions of a state for tests."""

from __future__ import annotations

from typing import Any

from prefrec_ray.mdp.state import StateDefinition


def changed(definition: StateDefinition, **fields: Any) -> StateDefinition:
    """Return a definition with other fields. `model_copy` would also copy its cached columns."""
    return StateDefinition(**{**definition.model_dump(), **fields})
