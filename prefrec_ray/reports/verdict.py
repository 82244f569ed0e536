"""What may be said of a policy's value in words: never more than its interval and its controls allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """`tone` is "good", "bad" or "open"."""

    text: str
    tone: str


def verdict(record: dict[str, Any], peers: Sequence[dict[str, Any]]) -> Verdict:
    """The verdict on one policy's record among all records of its task and estimator.

    Its gain over behaviour must have an interval above 0; then it is held against imitation (`online`, by roll-outs)
    or against the best placebo and its own shuffled actions (estimates from the log): what they score too owes nothing
    to the state. Of a gain by NCIS it says how much is session length.
    """
    low, high = gain_interval(record)
    if high < 0:
        return Verdict("below behaviour", "bad")
    if low <= 0:
        return Verdict("not told apart from behaviour", "open")
    return _against_imitation(low, peers) if record["estimator"] == "online" else _against_placebos(record, low, peers)


def gain_interval(record: dict[str, Any]) -> tuple[float, float]:
    """The 95 % interval of value - behaviour: the paired one where the record has it."""
    if "gain_ci_low" in record:
        return record["gain_ci_low"], record["gain_ci_high"]
    return record["ci_low"] - record["behaviour"], record["ci_high"] - record["behaviour"]


def _against_imitation(low: float, peers: Sequence[dict[str, Any]]) -> Verdict:
    gains = [_gain(peer) for peer in peers if peer["subject"] == "imitation"]
    if gains and low <= max(gains):
        return Verdict("above behaviour, not above imitation", "open")
    return Verdict("above behaviour and imitation" if gains else "above behaviour", "good")


def _against_placebos(record: dict[str, Any], low: float, peers: Sequence[dict[str, Any]]) -> Verdict:
    gains = {peer["subject"]: _gain(peer) for peer in peers if peer["subject"] != record["subject"]}
    shuffled = gains.get(f"shuffled:{record['subject']}")
    # Other policies' shuffled actions are policies of their own kind, no placebos for this one.
    blind = [gains[name] for name in ("random items", "constant action", "shuffled:imitation") if name in gains]
    if blind and low <= max(blind):
        return Verdict("within what placebos score", "open")
    text = "above behaviour and every placebo" if blind else "above behaviour"
    by_length = gains.get(f"length only:{record['subject']}")
    if by_length is not None:
        text += f" ({max(0.0, by_length / _gain(record)):.0%} of it by session length)"
    if shuffled is not None and low <= shuffled:
        return Verdict(f"{text}; so are its own actions shuffled over states", "open")
    return Verdict(text, "good")


def _gain(record: dict[str, Any]) -> float:
    return float(record["value"] - record["behaviour"])
