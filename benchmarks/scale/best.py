"""The rule `best` on a large catalogue: what a search among cells finds, misses and takes, beside scoring all items.

    python -m benchmarks best DATASET POLICY ...

For requests of test users: how often the item of the largest score is found, how many of the ten largest, and what is
lost at the first place, in standard deviations of a state's scores, by how many cells are scored whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.harness import markdown
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.policy import Policy
from prefrec_ray.policy.two_steps import TRIED

#: States that are looked at together.
_AT_ONCE = 50
_TEN = 10


def main(dataset: Path, policies: Sequence[Path], states: int = 200) -> dict[str, Any]:
    """A row a policy (one that scores items) and number of cells."""
    torch.set_num_threads(1)
    data = PreparedDataset.open(str(dataset))
    table = data.read(data.files("requests", "test")[0], columns=["state"])
    asked = tensor(table["state"])[:: max(1, len(table) // states)][:states].copy()
    rows = []
    for place in policies:
        policy = Policy.load(str(place)).under(rule="best", variety=0.0)  # by scores alone
        with patch("prefrec_ray.policy.distribution.EXACT", len(policy.items)):
            everything, all_ms = _largest(policy, asked)
        for cells in (TRIED // 2, TRIED, 2 * TRIED):
            with patch("prefrec_ray.policy.two_steps.TRIED", cells), patch("prefrec_ray.policy.distribution.EXACT", 0):
                found, ms = _largest(policy, asked)
            rows.append({"policy": place.name, "cells": cells, **_compared(policy, asked, found, everything)})
            rows[-1] |= {"ms a state": round(ms, 2), "all items": round(all_ms, 2)}
    print(markdown(rows[0], [row.values() for row in rows]))
    return {"items": len(policy.items), "states": len(asked), "rows": rows}


def _largest(policy: Policy, states: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows [n, 10] of the items that it serves, and ms a state."""
    policy.draw(states[:1], _TEN, None, 0)  # what is made once
    start = time.perf_counter()
    rows = [policy.draw(states[at : at + _AT_ONCE], _TEN, None, 0).rows for at in range(0, len(states), _AT_ONCE)]
    return np.concatenate(rows), 1e3 * (time.perf_counter() - start) / len(states)


def _compared(policy: Policy, states: np.ndarray, found: np.ndarray, largest: np.ndarray) -> dict[str, float]:
    """What was found of the `largest`."""
    assert policy.scorer is not None
    items, parts = policy.items.embeddings, []
    for at in range(0, len(states), _AT_ONCE):
        some = states[at : at + _AT_ONCE]
        parts.append(policy.scorer.scores(some, np.broadcast_to(items, (len(some), *items.shape))))
    scores = np.concatenate(parts)
    lost = np.take_along_axis(scores, largest[:, :1], axis=1) - np.take_along_axis(scores, found[:, :1], axis=1)
    lost = lost[:, 0] / scores.std(axis=1)
    both = list(zip(found.tolist(), largest.tolist(), strict=True))
    return {
        "best found": float((found[:, 0] == largest[:, 0]).mean()),
        "of ten": round(float(np.mean([len({*a} & {*b}) / _TEN for a, b in both])), 3),
        "lost, mean": round(float(lost.mean()), 4),
        "largest": round(float(lost.max()), 4),
    }
