"""Sizes of training and evaluation that fit a log and two cores, as lines of a YAML with their reasons."""

from __future__ import annotations

from collections.abc import Iterator

from prefrec_ray.inspection.counts import Counts

#: Numbers of transitions below which networks and mini-batches are smaller than the defaults.
_SMALL, _MEDIUM = 200_000, 1_000_000
#: The defaults of the recipe `robust` and of the section `evaluate`.
_EPOCHS, _PAIRS, _USERS, _REQUESTS = 5, 20_000, 200, 250
#: Smallest number of updates, and largest number of transitions: a few minutes on two cores.
_UPDATES, _TRANSITIONS = 1_000, 4_000_000
#: Mean number of segments that contain an impression.
_COMPARED = 4


def preference_lines(counts: Counts, length: int, train_fraction: float) -> Iterator[str]:
    """Yield the numbers of pairs of `prepare.preferences`."""
    pairs = rounded(_COMPARED * train_fraction * counts.rows / (2 * length))
    if pairs < _PAIRS:
        pairs = max(100, pairs)
        yield f"pairs: {pairs}  # an impression is in about {_COMPARED} segments"
        yield f"validation_pairs: {max(20, pairs // 10)}"


def train_lines(counts: Counts, train_fraction: float) -> Iterator[str]:
    """Yield the section `train`."""
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
    """Yield the section `evaluate`."""
    users, mean = max(2, round(test_fraction * counts.users)), counts.rows / counts.users
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
