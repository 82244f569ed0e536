"""What the records of one task and estimator say together: who cannot be told apart, and how negative controls fare."""

from __future__ import annotations

from collections.abc import Sequence

from prefrec_ray.evaluation.calibration import placebo_bias
from prefrec_ray.evaluation.names import subject_title
from prefrec_ray.evaluation.records import Record


def separation(records: Sequence[Record]) -> str:
    """In a sentence, which policies the data separate from the best one: their paired interval of best - value.

    Empty where there are no two policies, no such interval, or no record of the best one. Of a single network an
    interval does not hold the error.
    """
    behind = [(record, record.behind_ci_low) for record in records if record.behind_ci_low is not None]
    if not behind or behind[0][0].best not in {record.subject for record in records}:
        return ""
    first = behind[0][0]
    alike = sorted((record for record, low in behind if low <= 0), key=lambda record: -record.value)
    single = first.estimator in ("fqe", "dr") and first.settings.get("networks", 1) == 1
    more = " The interval does not hold the network's own error, so a small lead is none." if single else ""
    if not alike:
        return f"{first.best} scores highest, and the interval of its lead over every other policy is above 0.{more}"
    listed = _listed([f"{record.title} ({_behind(record)})" for record in alike])
    text = f"{first.best} scores highest, but the data cannot separate it from {listed}"
    return f"{text}: the 95 % interval of the difference, user by user, holds 0.{more}"


def calibration(records: Sequence[Record]) -> str:
    """In a sentence, how far the negative controls are from the logging policy. Empty where there are none, and of true
    values: there it is no bias; items at random may be better than the logging policy's.
    """
    bias = placebo_bias(records)
    if not bias or records[0].estimator == "online":
        return ""
    listed = _listed([f"{subject_title(name)} {value:+.1f}" for name, value in bias.items()])
    worst = max(abs(value) for value in bias.values())
    meaning = (
        "An estimator that gave everybody the logging policy's value would have them as near: this says nothing of "
        "how accurate the values of policies are."
        if worst <= 1
        else "Gains of that size need not come from what a policy knows."
    )
    return (
        f"Negative controls against the logging policy's value, in half-widths of their intervals: {listed}; "
        f"at most {worst:.1f}. {meaning}"
    )


def _behind(record: Record) -> str:
    return f"{record.behind_ci_low:+.2f} to {record.behind_ci_high:+.2f}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
