"""The position of a run, computed from its iteration number."""

import math

from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.algorithms.feed.offline import Schedule


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 200), st.integers(1, 50))
def test_iterations_cover_every_batch_once(pretrain: int, pairs: int, updates: int, per_iteration: int) -> None:
    schedule = Schedule(pretrain, pairs, updates, max(1, updates // 3), per_iteration)
    seen: dict[str, list[int]] = {"pretrain": [], "train": []}
    for iteration in range(schedule.iterations):
        position = schedule.at(iteration)
        seen[position.phase] += range(position.first, position.first + position.count)
    assert seen["pretrain"] == list(range(pretrain))
    assert schedule.pretrain_iterations == math.ceil(pretrain / pairs)
    assert seen["train"] == list(range(updates))


def test_training_goes_on_past_the_end() -> None:
    schedule = Schedule(2, 2, 10, 5, 4)
    assert schedule.iterations == 4
    assert (schedule.at(3).first, schedule.at(3).count) == (8, 2)
    assert (schedule.at(4).first, schedule.at(4).count) == (12, 4)
    assert Schedule(2, 2, 8, 4, 4).at(3).count == 4  # the last iteration was a whole one
