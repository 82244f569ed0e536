"""The proposed YAML of a log: sections `prepare`, `train` and `evaluate`, to read, correct and run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.inspection.counts import LENGTHS, Counts

#: Users with two segments, for enough different pairs of training and of validation users (a tenth of all).
_ENOUGH_USERS = 100
#: Share of training users.
_TRAIN = PrepareSettings.model_fields["train_fraction"].default
#: Without such users in 1 of 100 logs: .8 ** 20 is the probability of an empty split.
_FEWEST_USERS = 20
#: Most transitions -> width of hidden layers and mini-batch.
_SIZES = {200_000: (64, 256), 1_000_000: (128, 512)}
#: The defaults of the recipe `robust` and of the section `evaluate`.
_EPOCHS, _PAIRS, _REQUESTS = 5, 20_000, 250
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


def proposal(source: Iterable[str], counts: Counts) -> str:
    """Return the whole YAML: the lines of `source`, and sizes for a first look on two cores that fit the counts."""
    length, users = segment_length(counts)
    prepare: dict[str, Any] = {} if None in counts.sessions else {"session_gap_minutes": 30}
    if users < _ENOUGH_USERS:
        prepare["validation_fraction"] = 0.2  # few users are that active
    preferences = {} if length == LENGTHS[0] else {"length": length, "min_requests": 2 * length}
    pairs = rounded(_COMPARED * _TRAIN * counts.steps / (2 * length))
    if pairs < _PAIRS:
        preferences |= {"pairs": max(100, pairs), "validation_pairs": max(20, max(100, pairs) // 10)}
    if preferences:
        prepare["preferences"] = preferences
    requests = min(_REQUESTS, max(50, rounded(counts.steps / counts.users)))
    sections: dict[str, dict[str, Any]] = {
        "train": {"task": "frequency", "config": _training(max(1, round(_TRAIN * (counts.rows - counts.users))))},
        "evaluate": {"model": {"requests": requests}},
    }
    about = f"{counts.rows:,} impressions of {counts.users:,} users"
    notes = [few_users(counts) or f"{users:,} users have more than {2 * length} impressions: segments of {length}"]
    notes += [] if counts.timed else ["times are whole days: sessions are days"]
    lines = [f"# Proposed by prefrec inspect for {about}. Sizes are for a first look on two cores."]
    lines += [f"# {note}." for note in notes]
    lines += ["prepare:", "  source:", *(f"    {line}" for line in source)]
    lines += [f"  {key}: {flow(value)}" for key, value in prepare.items()]
    for name, section in sections.items():
        lines += ["", f"{name}:", *(f"  {key}: {flow(value)}" for key, value in section.items() if value)]
    return "\n".join(lines) + "\n"


def _training(transitions: int) -> dict[str, Any]:
    """Return the settings of training that differ from the defaults."""
    width, batch = next((size for most, size in _SIZES.items() if transitions < most), (0, 1024))
    config: dict[str, Any] = {"hidden_sizes": [width, width], "train_batch_size_per_learner": batch} if width else {}
    if transitions * _EPOCHS < batch * _UPDATES:
        config["num_epochs"] = min(50, -(-batch * _UPDATES // transitions))
    elif transitions * _EPOCHS > _TRANSITIONS:
        config["num_epochs"] = max(0.1, round(_TRANSITIONS / transitions, 1))
    return config


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
    enough = (pair for pair in zip(LENGTHS, counts.long_users, strict=True) if pair[1] >= _ENOUGH_USERS)
    return next(enough, (LENGTHS[-1], counts.long_users[-1]))


def rounded(number: float) -> int:
    """Return the number with two digits."""
    size = 10 ** max(0, len(str(int(number))) - 2)
    return round(number / size) * size
