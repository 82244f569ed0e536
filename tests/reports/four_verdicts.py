"""An evaluation by hand, with a policy of each verdict."""

import json
import math
from pathlib import Path
from typing import Any

from made_records import made_record

CANDIDATE = "PrefRec robust seed 0 rule sample"
SAME = "IL robust"
FEW = "PrefRec robust seed 0 rule best"
LOST = "PrefRec deterministic"
WORSE = "PrefRec paper"


def write_verdicts(folder: Path) -> dict[str, Any]:
    """Writes evaluation.json into the folder, and returns its content."""
    records = [
        _policy(CANDIDATE, 0.42, "robust", "sample", averaged=["nights/2", "nights/1"]),
        _policy(SAME, 0.03, "robust", "sample", method="IL", half=0.06),
        _policy(FEW, 0.9, "robust", "best"),
        _policy(WORSE, -0.5, "paper", "best"),
        _unsupported(LOST, 0.5, 0.12),
        _record(CANDIDATE, 1.71, "policy", estimator="online"),
        _record(WORSE, 0.31, "policy", estimator="online"),
        _record("behaviour", 1.2, "control", mean_revisit_hours=21.4, mean_depth=6.1),
        _record("imitation", 1.21, "control"),
        _record("shuffled:imitation", 1.18, "placebo"),
        _record("random items", 1.26, "placebo"),
    ]
    many = _served(310, [(100 + i, 0.04 - 0.001 * i) for i in range(20)])
    few = _served(4, [(i, 0.25) for i in range(4)])
    logged = _served(1000, [(i, 0.02) for i in range(20)])
    sure = {"states": 0.82, "ess": 0.31}
    content = {
        "schema_version": 1,
        "dataset": "quickstart/dataset",
        "split": "test",
        "records": records,
        "served": {CANDIDATE: many, SAME: many, FEW: few, WORSE: few, "behaviour": logged},
        "support": {
            **dict.fromkeys((CANDIDATE, SAME, FEW, WORSE), sure),
            LOST: {"states": 0.12, "ess": None},
        },
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
    return json.loads(json.dumps(content))


def _policy(
    name: str, gain: float, recipe: str, rule: str, method: str = "PrefRec", half: float = 0.12, **more: Any
) -> dict[str, Any]:
    origin = {"method": method, "recipe": recipe, "task": "frequency", "seed": 0, "rule": rule, **more}
    paired = {"gain_ci_low": gain - half, "gain_ci_high": gain + half}
    own = {"mean_revisit_hours": 18.2, "mean_depth": 7.3}
    own |= {"mean_revisit_hours_ci": (15.1, 21.3), "mean_depth_ci": (6.5, 8.1)}
    return _record(name, 1.2 + gain, "policy", method=method, half=0.17, provenance=origin, **paired, **own)


def _unsupported(name: str, gain: float, states: float) -> dict[str, Any]:
    """Return a record whose interval contains 0 only because of unsupported states."""
    error = 2 * (1 - states)
    half = math.hypot(0.12, error * gain)
    paired = {"gain_ci_low": gain - half, "gain_ci_high": gain + half, "reaches_end": False}
    settings = {"relative_error": error, "disagreement": 0.0}
    return _record(name, 1.2 + gain, "policy", half=half, settings=settings, **paired)


def _record(subject: str, value: float, role: str, **changes: Any) -> dict[str, Any]:
    about = {"task": "frequency", "estimator": "model", "behaviour": 1.2, **changes}
    return made_record(subject, value, role, **about).model_dump(exclude_unset=True)


def _served(distinct: int, shares: list[tuple[int, float]]) -> dict[str, Any]:
    top = [{"item_id": item, "share": share} for item, share in shares]
    return {"requests": 800, "distinct_items": distinct, "top_items": top}
