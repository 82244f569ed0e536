"""The proposed YAML of a log: sections `prepare`, `train` and `evaluate`, to read, correct and run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prefrec_ray.inspection.counts import LENGTHS, Counts
from prefrec_ray.inspection.roles import Roles
from prefrec_ray.inspection.sizes import evaluate_lines, preference_lines, train_lines
from prefrec_ray.inspection.tables import Tables
from prefrec_ray.logs.sources import RESERVED

#: Users with two segments, for enough different pairs of training and of validation users (5 % of all).
_ENOUGH_USERS = 100
_DEFAULT_LENGTH = 100
#: Training and validation users: the defaults, and if few users have enough impressions (5 % of them may be none).
_FRACTIONS, _FEW_USERS = (0.8, 0.05), (0.6, 0.2)


def files_source(
    path: str | list[str], roles: Roles, counts: Counts, tables: Tables, delimiter: str | None
) -> list[str]:
    """Return the lines of the key `source` for files with these roles."""
    lines = ["kind: files", f"path: {_value(path)}"]
    if delimiter:
        lines.append(f"delimiter: {_value(delimiter)}")
    lines += [f"user: {_value(roles.user)}", f"item: {_value(roles.item)}", f"time: {_value(roles.time)}"]
    if roles.time_format:
        doubt = f"  # or {_value(roles.other_format)}: which?" if roles.other_format else ""
        lines.append(f"time_format: {_value(roles.time_format)}{doubt}")
    elif roles.time_unit != "iso":
        lines.append(f"time_unit: {roles.time_unit}")
    if roles.session:
        lines.append(f"session: {_value(roles.session)}")
    if roles.dwell:
        lines += [f"dwell: {_value(roles.dwell)}", f"dwell_unit: {roles.dwell_unit}"]
    if roles.feedback:
        lines.append("feedback:")
        lines += [f"  {line}" for column, kind in roles.feedback.items() for line in _feedback(column, kind, roles)]
    if roles.reward:
        lines.append(f"reward: {_value(roles.reward)}  # stays out of the state")
    if roles.propensity:
        lines.append(f"propensity: {_value(roles.propensity)}")
    for key, table in (("users", tables.users), ("items", tables.items)):
        if table:
            lines.append(f"{key}: {_value(dict(table))}")
    if counts.repeats:
        lines.append(f"duplicates: keep  # {counts.repeats:,} rows; or refuse, and prefrec prepare --on-error drop")
    return lines


def known_lines(known: Mapping[str, Any]) -> list[str]:
    """Return the lines of the key `source` for a log whose kind is recognized by its files."""
    return [f"{key}: {_value(value)}" for key, value in known.items()]


def proposal(source: list[str], counts: Counts) -> str:
    """Return the whole YAML: the lines of `source`, and the settings that fit the counts."""
    session = int(counts.sessions[counts.timeouts.index(counts.level_timeout)])
    about = f"{counts.rows:,} impressions of {counts.users:,} users in {session:,} sessions"
    lines = [f"# Proposed by prefrec inspect for {about}.", "# Sizes are for a first look on two cores."]
    lines += ["prepare:", "  source:", *(f"    {line}" for line in source)]
    lines.append("  session_gap_minutes: 30" if None not in counts.timeouts else "  # sessions are the log's own")
    if not counts.timed:
        lines[-1] += "  # times are whole days: sessions are days"
    length, users = segment_length(counts)
    preferences, (train, validation) = [], _FRACTIONS
    if length != _DEFAULT_LENGTH:
        preferences += [
            f"length: {length}  # {users:,} of {counts.users:,} users have more than {2 * length} impressions",
            f"min_requests: {2 * length}",
        ]
    if users < _ENOUGH_USERS:
        train, validation = _FEW_USERS
        lines += [f"  train_fraction: {train}", f"  validation_fraction: {validation}  # few users are that active"]
    preferences += preference_lines(counts, length, train)
    if preferences:
        lines += ["  preferences:", *(f"    {line}" for line in preferences)]
    lines += ["", *train_lines(counts, train), "", *evaluate_lines(counts, 1 - train - validation)]
    return "\n".join(lines) + "\n"


def segment_length(counts: Counts) -> tuple[int, int]:
    """Return the longest segments of which enough users have two, else the shortest, and the number of these users."""
    for length, users in zip(LENGTHS, counts.long_users, strict=True):
        if users >= _ENOUGH_USERS:
            return length, int(users)
    return LENGTHS[-1], int(counts.long_users[-1])


def _feedback(column: str, kind: str, roles: Roles) -> list[str]:
    name = f"{column}_" if column in RESERVED else column
    about = {"column": column} | ({"kind": kind} if kind != "number" else {})
    if column in roles.partly_empty:
        return [f"{_value(name)}: {_value({**about, 'missing': 0})}  # empty cells count as 0: right?"]
    return [f"{_value(name)}: {_value(about)}"]


def _value(value: Any) -> str:
    """Write a value in YAML's flow style; a text is quoted if it could be read as something else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str) and not _is_plain(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _is_plain(text: str) -> bool:
    import yaml

    if not text or any(sign in text for sign in ",[]{}#&*!|>'\"%@`\n\t"):
        return False
    try:
        return yaml.safe_load(f"a: {text}") == {"a": text}
    except yaml.YAMLError:
        return False
