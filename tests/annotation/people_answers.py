"""Shared inputs: the length of segments, and answers of three invented annotators."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefrec_ray.annotation.questions import read_pairs

LENGTH = 5
PEOPLE = ("anna", "bo", "cy")


def quiet(*_: Any) -> None:
    pass


def write_answers(folder: Path, file: Path, seed: int = 0) -> pd.DataFrame:
    """Write labels of three annotators for all pairs except the last, which all skip."""
    rng = np.random.default_rng(seed)
    pairs = read_pairs(str(folder))["pair_id"].to_pylist()
    rows = [
        {
            "pair_id": pair,
            "annotator": who,
            "label": str(rng.choice(["first", "second", "tie", "skip"], p=[0.4, 0.4, 0.1, 0.1])),
        }
        for pair in pairs[:-1]
        for who in PEOPLE
    ]
    rows += [{"pair_id": pairs[-1], "annotator": who, "label": "skip"} for who in PEOPLE]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pd.DataFrame(rows)


def files(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}
