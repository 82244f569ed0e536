"""The proposed YAML of a log: sections `prepare`, `train` and `evaluate`, to read, correct and run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from prefrec_ray.inspection.counts import LENGTHS, Counts

#: Users with two segments, for enough different pairs of training and of validation users (5 % of all).
_ENOUGH_USERS = 100
_DEFAULT_LENGTH = 100
#: Training and validation users: the defaults, and if few users have enough impressions (5 % of them may be none).
_FRACTIONS, _FEW_USERS = (0.8, 0.05), (0.6, 0.2)
#: Without such users in 1 of 100 logs: .8 ** 20 is the probability of an empty split.
_FEWEST_USERS = 20
#: Numbers of transitions below which networks and mini-batches are smaller than the defaults.
_SMALL, _MEDIUM = 200_000, 1_000_000
#: The defaults of the recipe `robust` and of the section `evaluate`.
_EPOCHS, _PAIRS, _USERS, _REQUESTS = 5, 20_000, 200, 250
#: Smallest number of updates, and largest number of transitions: a few minutes on two cores.
_UPDATES, _TRANSITIONS = 1_000, 4_000_000
#: Mean number of segments that contain an impression.
_COMPARED = 4


def source_lines(source: Mapping[str, Any], doubts: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the key `source`; `doubts` are comments on keys and on names of feedback."""
    for key, value in source.items():
        if key != "feedback":
            yield _line(key, value, doubts)
            continue
        yield "feedback:"
        yield from (f"  {_line(name, column, doubts)}" for name, column in value.items())


def proposal(source: Iterable[str], counts: Counts) -> str:
    """Return the whole YAML: the lines of `source`, and the settings that fit the counts."""
    session = int(counts.sessions[counts.timeouts.index(counts.level_timeout)])
    about = f"{counts.rows:,} impressions of {counts.users:,} users in {session:,} sessions"
    lines = [f"# Proposed by prefrec inspect for {about}.", "# Sizes are for a first look on two cores."]
    lines += [f"# {few}."] if (few := few_users(counts)) else []
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


def few_users(counts: Counts) -> str | None:
    """Return one line if `prepare` may find no user for a split."""
    length, users = segment_length(counts)
    if users >= _FEWEST_USERS:
        return None
    return (
        f"{users} of {counts.users:,} users have more than {2 * length} impressions; prefrec prepare needs about "
        f"{_FEWEST_USERS} such users, so that each split has some"
    )


def segment_length(counts: Counts) -> tuple[int, int]:
    """Return the longest segments of which enough users have two, else the shortest, and the number of these users."""
    for length, users in zip(LENGTHS, counts.long_users, strict=True):
        if users >= _ENOUGH_USERS:
            return length, int(users)
    return LENGTHS[-1], int(counts.long_users[-1])


def _line(key: str, value: Any, doubts: Mapping[str, str]) -> str:
    return f"{flow(key)}: {flow(value)}{f'  # {doubts[key]}' if key in doubts else ''}"


class _Dumper(yaml.SafeDumper):
    """Writes a text with a line break between double quotes: in other styles it takes several lines."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"'),
)


def flow(value: Any) -> str:
    """Return a value in one line of YAML."""
    text = yaml.dump(value, None, _Dumper, default_flow_style=True, allow_unicode=True, sort_keys=False, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


def preference_lines(counts: Counts, length: int, train_fraction: float) -> Iterator[str]:
    """Yield the numbers of pairs of `prepare.preferences`."""
    pairs = rounded(_COMPARED * train_fraction * counts.steps / (2 * length))
    if pairs < _PAIRS:
        pairs = max(100, pairs)
        yield f"pairs: {pairs}  # an impression is in about {_COMPARED} segments"
        yield f"validation_pairs: {max(20, pairs // 10)}"


def train_lines(counts: Counts, train_fraction: float) -> Iterator[str]:
    transitions = max(1, round(train_fraction * (counts.rows - counts.users)))
    yield "train:"
    yield "  task: frequency  # users return sooner; or depth: longer sessions; or mixture"
    config = []
    batch = 256 if transitions < _SMALL else 512 if transitions < _MEDIUM else 1024
    if transitions < _MEDIUM:
        width = 64 if transitions < _SMALL else 128
        config.append(f"hidden_sizes: [{width}, {width}]  # for about {rounded(transitions):,} transitions")
        config.append(f"train_batch_size_per_learner: {batch}  # {-(-transitions // batch):,} updates per epoch")
    epochs = _EPOCHS
    if transitions * epochs < batch * _UPDATES:
        epochs = min(50, -(-batch * _UPDATES // transitions))
        config.append(f"num_epochs: {epochs}  # {epochs * -(-transitions // batch):,} updates in all")
    elif transitions * epochs > _TRANSITIONS:
        few = max(0.1, round(_TRANSITIONS / transitions, 1))
        config.append(f"num_epochs: {few}  # a few minutes on two cores; the default is {_EPOCHS}")
    if config:
        yield "  config:"
        yield from (f"    {line}" for line in config)


def evaluate_lines(counts: Counts, test_fraction: float) -> Iterator[str]:
    users, mean = max(2, round(test_fraction * counts.users)), counts.steps / counts.users
    yield "evaluate:"
    yield "  model:"
    of = f"from about {users:,} test users" if users > _USERS else "all test users, about"
    yield f"    users: {min(_USERS, users)}  # {of}"
    requests = min(_REQUESTS, max(50, rounded(mean)))
    yield f"    requests: {requests}  # a user of the log has {mean:.0f} on average"


def rounded(number: float) -> int:
    """Return the number with two digits."""
    size = 10 ** max(0, len(str(int(number))) - 2)
    return round(number / size) * size
