"""A broken night is recognized by a comparison with the nights before it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefrec_ray.nightly.check import FeedbackStatistics, NightCounts, problems


def counted(requests: int = 1000, users: int = 100, **columns: tuple[float, float, float]) -> NightCounts:
    """Columns as (low, high, share)."""
    all_columns = {"click": (0, 1, 0.4), **columns}
    feedback = {
        name: FeedbackStatistics(low=low, high=high, share=share) for name, (low, high, share) in all_columns.items()
    }
    return NightCounts(spans=((0, requests - 1),), requests=requests, users=users, feedback=feedback)


FIRST = counted(requests=50_000, users=2_000)


def test_the_first_night_passes_whatever_it_holds() -> None:
    assert problems(counted(click=(0, 0, 0)), []) == []


@pytest.mark.parametrize("value", [0.0, 1.0, 7.5])
def test_a_column_with_one_value_is_broken_if_it_had_several(value: float) -> None:
    now = counted(click=(value, value, float(value != 0)))
    (problem,) = problems(now, [FIRST])
    assert f"feedback 'click' is {value:g} in all 1,000 impressions" in problem


def test_a_column_that_always_had_one_value_may_keep_it() -> None:
    dull = counted(share=(0, 0, 0))
    assert problems(dull, [dull, dull]) == []


def test_a_column_that_is_gone_is_named() -> None:
    assert problems(counted(), [counted(like=(0, 1, 0.2))]) == [
        "feedback 'like' is missing; expected it as in earlier nights"
    ]


@given(share=st.floats(0, 1))
@example(share=0.0399)
@example(share=0.0401)
def test_a_share_may_fall_to_a_tenth(share: float) -> None:
    now, before = counted(click=(0, 1, share)), counted(click=(0, 1, 0.4))
    assert bool(problems(now, [before])) == (share < 0.4 / 10)


def test_a_rare_column_tells_nothing() -> None:
    before = counted(follow=(0, 1, 0.01))
    assert problems(counted(follow=(0, 1, 0.0005)), [before]) == []


@pytest.mark.parametrize(("requests", "found"), [(1000, True), (999, False)])
def test_a_share_counts_if_a_hundred_requests_are_expected_to_have_it(requests: int, found: bool) -> None:
    now, before = counted(requests=requests, follow=(0, 1, 0.001)), counted(follow=(0, 1, 0.1))
    assert bool(problems(now, [before])) == found


@pytest.mark.parametrize(("requests", "found"), [(100, True), (99, False)])
def test_a_rare_column_with_one_value_counts_from_a_hundred_requests_on(requests: int, found: bool) -> None:
    now, before = counted(requests=requests, follow=(0, 0, 0)), counted(follow=(0, 1, 0.01))
    assert bool(problems(now, [before])) == found


@given(requests=st.integers(1, 20_000), users=st.integers(1, 2_000))
def test_volumes_may_differ_threefold_from_all_nights_but_the_first(requests: int, users: int) -> None:
    earlier = [FIRST, counted(1000, 100), counted(1200, 90)]
    fine = 334 <= requests <= 3600 and 30 <= users <= 300
    assert bool(problems(counted(requests, users), earlier)) != fine


def test_nothing_new_is_no_night() -> None:
    nothing = NightCounts(spans=(), requests=0, users=0, feedback={})
    assert problems(nothing, [FIRST]) == ["no new impressions"]
