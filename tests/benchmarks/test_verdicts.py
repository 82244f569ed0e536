"""Figures of verdicts against the truth, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.truth.verdicts import cells, figures, pairs, regret

#: True levels under the logged items: .1 below a new roll-out of the logging policy.
AGAIN = {"depth": 0.9}


def record(subject: str, estimator: str, gain: float, **more: Any) -> dict[str, Any]:
    role = "policy" if subject.startswith("p") else "control"
    bundle = {"bundle": f"out/robust/policies/{subject}"} if role == "policy" else {}
    about = {"method": "PrefRec", "task": "depth", "subject": subject, "role": role}
    return {**about, "estimator": estimator, "value": 1 + gain, "behaviour": 1.0, **bundle, **more}


def modelled(subject: str, gain: float, half: float) -> dict[str, Any]:
    return record(subject, "model", gain, gain_ci_low=gain - half, gain_ci_high=gain + half, ci_low=0.9, ci_high=2.1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    truth = {"p1": 1.0, "p2": -0.2, "p3": 0.5, "p4": 0.9, "random items": 0.6}
    records = [record(subject, "online", gain) for subject, gain in truth.items()]
    records += [modelled("p1", 0.8, 0.3), modelled("p2", 0.1, 0.05), modelled("p3", 0.9, 0.1)]
    records.append(modelled("random items", 0.3, 0.1))
    records += [record("p1", "weights", 0.2), record("p3", "weights", 0.2), record("p2", "weights", 0.4)]
    verdicts = {"p1": "candidate", "p2": "candidate", "p3": "no_difference", "p4": "inconclusive"}
    path = tmp_path / "drift" / "log0" / "evaluation.json"
    path.parent.mkdir(parents=True)
    content = {
        "records": records,
        "support": {name: {"states": 0.5 if name == "p4" else 1.0, "ess": 0.25} for name in verdicts},
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
    assert results["intervals that hold the true gain over the logging policy anew"] == ("33%", 3)  # only p1
    assert results["intervals that hold the true gain over the logged items"] == ("33%", 3)  # 1.1, -.1, .6: only p1
    assert results["intervals that hold the true level"] == ("67%", 3)  # 2 and 1.5 are within .9 to 2.1, .8 is not
    assert results["half-width, median, levels"] == ("0.10", 3)
    assert results["error of the gain over the logging policy anew, mean, levels"] == ("0.17", 3)  # -.2, +.3, +.4
    assert results["error of the gain over the logged items, mean, levels"] == ("0.07", 3)  # .1 less each
    assert results["random items"] == ("-4.00", 1)
    assert results["importance weights"] == ("0.30", 2)  # .2 of p1, .4 of p3; p2 gains too little
    assert results["effective share of sessions, median"] == ("0.2500", 3)
    assert results["candidate"] == ("-0.20, 0.40, 1.00", 2)


def test_regret_and_pairs(file: Path) -> None:
    group = [cell for cell in cells(file, AGAIN) if cell["role"] == "policy" and "estimate" in cell]
    assert regret(group) == pytest.approx(0.5)  # p3 is chosen, p1 is best
    assert sorted(pairs(group)) == [False, True, True]


def test_regret_is_a_share_of_the_best_gain() -> None:
    """It does not depend on the size of gains in a world, and is 0 if no policy gains."""
    estimates = (0.2, 0.9, 0.4)
    for size in (0.25, 1.0, 8.0):
        gains = (4 * size, size, 2 * size)
        group = [{"gain": gain, "estimate": said} for gain, said in zip(gains, estimates, strict=True)]
        assert regret(group) == pytest.approx(0.75)
    assert regret([{"gain": -1.0, "estimate": 0.1}, {"gain": -2.0, "estimate": 0.3}]) == 0.0
