"""What `prefrec evaluate` says of policies whose truth is known: `python -m benchmarks verdicts OUTPUT [--worlds ...]`.

OUTPUT is that of the truth bench. Each log's policies (all methods, recipes and serving rules that it holds) are
evaluated by the estimator `model`, and estimate, support and verdict are held against their true levels. What is there
already (LOG/verdicts.json) is not done again. Cells are (policy, task) of a log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import markdown, prefrec
from benchmarks.truth.scores import KINDS, online, pick
from prefrec_ray.evaluation.names import CONSTANT, RANDOM_ITEMS
from prefrec_ray.evaluation.run import load_named

#: In levels: a policy this much above the logging policy is worth an A/B test.
WORTH = 0.3


def main(output: Path, worlds: Sequence[str] | None = None, table: bool = False) -> dict[str, Any]:
    """Evaluates what is missing, unless `table`; then prints the figures of all cells."""
    logs = sorted(file.parent for file in output.glob("*/log*/evaluation.json"))
    logs = [log for log in logs if worlds is None or log.parent.name in worlds]
    for log in logs:
        bundles = bundles_in(log)
        if not table and not (log / "verdicts.json").exists():
            # Roll-outs of the simulator are there: only the estimate is made.
            config = log / "verdicts.yaml"
            config.write_text("evaluate: {estimators: [model]}\n")
            dataset, result = str(log / "dataset"), str(log / "verdicts.json")
            prefrec("evaluate", *bundles, "--dataset", dataset, "--config", str(config), "--output", result)
    found = [cell for log in logs if (log / "verdicts.json").exists() for cell in cells(log)]
    print(markdown(("", "", "cells"), list(figures(found))))
    return {"cells": found}


def bundles_in(log: Path) -> list[str]:
    """The policies of a log."""
    return [str(path) for kind in KINDS for path in sorted((log / kind / "policies").glob("*"))]


def cells(log: Path) -> list[dict[str, Any]]:
    """A cell a (policy, task), and of the controls that know nothing: true and estimated gains, support, verdict."""
    truth = online(log / "evaluation.json")
    said = json.loads((log / "verdicts.json").read_text())
    estimates = {(r["subject"], r["task"]): r for r in said["records"] if r["estimator"] == "model"}
    names = {uri: name for name, (uri, _) in load_named(bundles_in(log)).items()}
    found = []
    for record in truth:
        subject = names.get(record.get("bundle"), record["subject"])
        if record["role"] != "policy" and subject not in (CONSTANT, RANDOM_ITEMS):
            continue
        estimate = estimates.get((subject, record["task"]))
        found.append(
            {
                "world": log.parent.name,
                "log": log.name,
                **{key: record[key] for key in ("kind", "method", "task", "role")},
                "subject": subject,
                "gain": record["value"] - record["behaviour"],
                "support": said["support"].get(subject, {}).get("states"),
                "verdict": said["verdicts"].get(subject, {}).get("verdict"),
                **({} if estimate is None else _estimated(estimate)),
            }
        )
    return found


def _estimated(record: dict[str, Any]) -> dict[str, float]:
    low, high = record["gain_ci_low"], record["gain_ci_high"]
    return {"estimate": record["value"] - record["behaviour"], "low": low, "high": high}


def figures(found: list[dict[str, Any]]) -> Any:
    """Rows: what, value, how many cells."""
    policies = pick(found, role="policy")
    candidates = [cell for cell in policies if cell["verdict"] == "candidate"]
    given = [cell for cell in policies if "estimate" in cell]
    worth = [cell for cell in given if cell["gain"] >= WORTH]
    below = [cell for cell in policies if cell["gain"] < 0]
    yield "called candidates though below the logging policy", sum(c["gain"] < 0 for c in candidates), len(below)
    yield f"{WORTH} levels above, with support: called candidates", _share([c in candidates for c in worth]), len(worth)
    yield "intervals that hold the true gain", _share([c["low"] <= c["gain"] <= c["high"] for c in given]), len(given)
    yield "half-width, median, levels", _median([(c["high"] - c["low"]) / 2 for c in given]), len(given)
    yield "error of the gain, mean, levels", _mean([c["estimate"] - c["gain"] for c in given]), len(given)
    yield "error of the gain, mean absolute, levels", _mean([abs(c["estimate"] - c["gain"]) for c in given]), len(given)
    for name in (RANDOM_ITEMS, CONSTANT):
        control = [c for c in pick(found, subject=name) if "estimate" in c]
        halves = [(c["estimate"] - c["gain"]) / ((c["high"] - c["low"]) / 2) for c in control]
        yield f"{name}: half-widths from the true gain, mean", _mean(halves), len(control)
    for verdict in ("candidate", "no_difference", "cannot_say", "do_not_ship"):
        gains = [c["gain"] for c in policies if c["verdict"] == verdict]
        yield f"{verdict}: true gain, lowest, median, highest", _range(gains), len(gains)


def _share(values: list[bool]) -> str:
    return f"{np.mean(values):.0%}" if values else ""


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" if values else ""


def _median(values: list[float]) -> str:
    return f"{np.median(values):.2f}" if values else ""


def _range(values: list[float]) -> str:
    return f"{min(values):.2f}, {np.median(values):.2f}, {max(values):.2f}" if values else ""
