"""Sentences about all records of one task and estimator: policies too close to separate, and negative controls."""

from __future__ import annotations

from collections.abc import Sequence

from prefrec_ray.evaluation.results.calibration import placebo_bias
from prefrec_ray.evaluation.results.names import subject_title
from prefrec_ray.evaluation.results.records import Record


def separation(records: Sequence[Record]) -> str:
    """Return a sentence with the policies that the data cannot separate from the best one, by the interval of its lead.

    Empty without two policies, without intervals, or without a record of the best policy.
    """
    behind = [(record, record.behind_ci_low) for record in records if record.behind_ci_low is not None]
    if not behind or behind[0][0].best not in {record.subject for record in records}:
        return ""
    first = behind[0][0]
    alike = sorted((record for record, low in behind if low <= 0), key=lambda record: -record.value)
    single = first.estimator in ("fqe", "dr") and first.settings.get("networks", 1) == 1
    more = " The interval does not contain the network's own error: ignore a small lead." if single else ""
    if not alike:
        return f"{first.best} scores highest, and the interval of its lead over every other policy is above 0.{more}"
    listed = _listed([f"{record.title} ({_behind(record)})" for record in alike])
    text = f"{first.best} scores highest, but the data cannot separate it from {listed}"
    return f"{text}: the 95 % interval of the difference, user by user, contains 0.{more}"


def calibration(records: Sequence[Record]) -> str:
    """Return a sentence with the distances of the negative controls from the logging policy.

    Empty without negative controls, and for true values: random items may truly be better than the logged ones.
    """
    bias = placebo_bias(records)
    if not bias or records[0].estimator == "online":
        return ""
    listed = _listed([f"{subject_title(name)} {value:+.1f}" for name, value in bias.items()])
    worst = max(abs(value) for value in bias.values())
    meaning = (
        "An estimator that returns the logging policy's value for every subject has the same distances, so this does "
        "not "
        "show that the values of policies are accurate."
        if worst <= 1
        else "Gains of this size may be bias."
    )
    return (
        f"Negative controls against the logging policy's value, in half-widths of their intervals: {listed}; "
        f"at most {worst:.1f}. {meaning}"
    )


def _behind(record: Record) -> str:
    return f"{record.behind_ci_low:+.2f} to {record.behind_ci_high:+.2f}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
