"""Figures of verdicts against the truth, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.truth.verdicts import cells, figures, pairs

#: True levels under the logged items: .1 below a new roll-out of the logging policy.
AGAIN = {"depth": 0.9}


def record(subject: str, estimator: str, gain: float, **more: Any) -> dict[str, Any]:
    role = "policy" if subject.startswith("p") else "control"
    bundle = {"bundle": f"out/robust/policies/{subject}"} if role == "policy" else {}
    about = {"method": "PrefRec", "task": "depth", "subject": subject, "role": role}
    return {**about, "estimator": estimator, "value": 1 + gain, "behaviour": 1.0, **bundle, **more}


def modelled(subject: str, gain: float, half: float) -> dict[str, Any]:
    return record(subject, "model", gain, gain_ci_low=gain - half, gain_ci_high=gain + half)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    truth = {"p1": 1.0, "p2": -0.2, "p3": 0.5, "p4": 0.9, "random items": 0.6}
    records = [record(subject, "online", gain) for subject, gain in truth.items()]
    records += [modelled("p1", 0.8, 0.3), modelled("p2", 0.1, 0.05), modelled("p3", 0.9, 0.1)]
    records.append(modelled("random items", 0.3, 0.1))
    verdicts = {"p1": "candidate", "p2": "candidate", "p3": "no_difference", "p4": "inconclusive"}
    path = tmp_path / "drift" / "log0" / "evaluation.json"
    path.parent.mkdir(parents=True)
    content = {
        "records": records,
        "support": {name: {"states": 0.5 if name == "p4" else 1.0} for name in verdicts},
        "verdicts": {name: {"verdict": verdict} for name, verdict in verdicts.items()},
    }
    path.write_text(json.dumps(content))
    return path


def test_figures_are_sums_by_hand(file: Path) -> None:
    rows = cells(file, AGAIN)
    assert [(cell["subject"], cell["support"], "estimate" in cell) for cell in rows] == [
        ("p1", 1.0, True),
        ("p2", 1.0, True),
        ("p3", 1.0, True),
        ("p4", 0.5, False),
        ("random items", None, True),
    ]
    results = {what.split(":")[0]: (value, count) for what, value, count in figures(rows)}
    assert results["called candidates though below the logging policy"] == (1, 1)
    assert results["0.3 levels above, with support"] == ("50%", 2)  # p1 of p1 and p3
    assert results["intervals that hold the true gain over the logged items"] == ("33%", 3)  # 1.1, -.1, .6: only p1
    assert results["half-width, median, levels"] == ("0.10", 3)
    assert results["error of the gain, mean, levels"] == ("0.07", 3)  # -.3, +.2, +.3
    assert results["random items"] == ("-4.00", 1)


def test_pairs(file: Path) -> None:
    group = [cell for cell in cells(file, AGAIN) if cell["role"] == "policy" and "estimate" in cell]
    assert sorted(pairs(group)) == [False, True, True]
