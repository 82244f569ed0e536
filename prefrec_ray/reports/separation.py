"""What the records of one task and estimator say together: who cannot be told apart, and what placebos are off by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefrec_ray.evaluation.calibration import placebo_bias


def separation(records: Sequence[dict[str, Any]]) -> str:
    """In a sentence, which policies the data separate from the best one: their paired interval of best - value.

    Empty where there are no two policies, or no such interval. Of a single network an interval does not hold the error.
    """
    others = [record for record in records if "behind_ci_low" in record]
    if not others:
        return ""
    best = others[0]["best"]
    alike = [record for record in others if record["behind_ci_low"] <= 0]
    networks = others[0].get("settings", {}).get("networks", 1)
    fitted = others[0]["estimator"] in ("fqe", "dr") and networks == 1
    more = " The interval does not hold the network's own error, so a small lead is none." if fitted else ""
    if not alike:
        return f"{best} scores highest, and the interval of its lead over every other policy is above 0.{more}"
    named = [f"{record['subject']} ({_interval(record)})" for record in sorted(alike, key=lambda r: -r["value"])]
    text = f"{best} scores highest, but the data cannot separate it from {_listed(named)}"
    return f"{text}: the 95 % interval of the difference, user by user, holds 0.{more}"


def calibration(records: Sequence[dict[str, Any]]) -> str:
    """In a sentence, how far the placebos are from behaviour. Empty where there are none, and of true values.

    What a placebo is worth in a roll-out is no bias: items at random may be better than the logging policy's.
    """
    bias = placebo_bias(records)
    if not bias or records[0]["estimator"] == "online":
        return ""
    named = _listed([f"{name} {value:+.1f}" for name, value in bias.items()])
    worst = max(abs(value) for value in bias.values())
    said = (
        "less than the interval's half-width: no bias to be seen"
        if worst <= 1
        else "more than the interval's half-width: gains of that size need not come from a policy's knowledge"
    )
    return f"Placebos against behaviour, in half-widths of their intervals: {named}; at most {worst:.1f}, {said}."


def _interval(record: dict[str, Any]) -> str:
    return f"{record['behind_ci_low']:+.2f} to {record['behind_ci_high']:+.2f}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
