"""What may be said of a policy's value in words: never more than its interval and its controls allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from prefrec_ray.evaluation.calibration import BLIND
from prefrec_ray.evaluation.names import BEHAVIOUR, IMITATION, length_only, shuffled
from prefrec_ray.evaluation.records import Record, Served

#: A policy that gives so large a share of its requests to so few items, where the logging policy gives theirs less than
#: half of that, serves everybody the same: whatever its value, no verdict on it is "good".
FEW_ITEMS, CONCENTRATED = 10, 0.9


@dataclass(frozen=True)
class Verdict:
    """`tone` is "good", "bad" or "open"."""

    text: str
    tone: str


def verdict(record: Record, peers: Sequence[Record], served: Mapping[str, Served] | None = None) -> Verdict:
    """The verdict on one policy's record among all records of its task and estimator.

    Its gain over the logging policy must have an interval above 0; then it is held against behavior cloning (`online`,
    by roll-outs) or against the best negative control and its own shuffled actions (estimates from the log): what they
    score too owes nothing to the state. Of a gain by NCIS it says how much is session length. `served`, by subject,
    tells a policy that serves everybody the same few items.
    """
    low, high = record.gain_interval
    if high < 0:
        return Verdict("below the logging policy", "bad")
    if low <= 0:
        return Verdict("not told apart from the logging policy", "open")
    against = _against_cloning if record.estimator == "online" else _against_negative_controls
    return _with_concentration(against(record, low, peers), record.subject, served or {})


def _against_cloning(record: Record, low: float, peers: Sequence[Record]) -> Verdict:
    gains = [peer.gain for peer in peers if peer.subject == IMITATION]
    if gains and low <= max(gains):
        return Verdict("above the logging policy, not above behavior cloning", "open")
    return Verdict("above logging policy and behavior cloning" if gains else "above the logging policy", "good")


def _against_negative_controls(record: Record, low: float, peers: Sequence[Record]) -> Verdict:
    gains = {peer.subject: peer.gain for peer in peers if peer.subject != record.subject}
    # Other policies' shuffled actions are policies of their own kind, no negative controls for this one.
    blind = [gains[name] for name in BLIND if name in gains]
    if blind and low <= max(blind):
        return Verdict("within what negative controls score", "open")
    text = "above logging policy and every negative control" if blind else "above the logging policy"
    by_length = gains.get(length_only(record.subject))
    if by_length is not None:
        text += f" ({max(0.0, by_length / record.gain):.0%} of it by session length)"
    if low <= gains.get(shuffled(record.subject), -float("inf")):
        return Verdict(f"{text}; so are its own actions shuffled over states", "open")
    return Verdict(text, "good")


def _with_concentration(said: Verdict, subject: str, served: Mapping[str, Served]) -> Verdict:
    own, logged = served.get(subject), served.get(BEHAVIOUR)
    if own is None or own.share_of(FEW_ITEMS) < CONCENTRATED:
        return said
    text = f"{said.text}, but {min(FEW_ITEMS, own.distinct_items)} items take {own.share_of(FEW_ITEMS):.0%} of requests"
    if logged is None:
        return Verdict(text, "open")
    usually = logged.share_of(FEW_ITEMS)
    if usually > own.share_of(FEW_ITEMS) / 2:
        return said
    return replace(said, text=f"{text} (the logging policy's: {usually:.0%})", tone="open")
