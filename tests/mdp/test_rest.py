"""Repeats of a log and the rest of items, against counts by hand."""

import math

import numpy as np
import pytest

from prefrec_ray.mdp.excluded import DAY_MS, HOUR_MS, LastShown, measure_repeats, rest_ms


def test_repeats_are_counted_by_user() -> None:
    user = np.array([0, 0, 0, 0, 1, 1, 1])
    row = np.array([7, 2, 7, 7, 7, 2, 2])
    hour = np.array([0, 1, 5, 9, 0, 1, 3])
    found = measure_repeats(user, (hour * HOUR_MS).astype(np.int64), row)
    assert found.share == pytest.approx(3 / 7)
    assert (found.impressions, found.hours) == (1.0, 4.0)  # of 2, 1, 1 and of 5, 4, 2
    assert found.rest_days == pytest.approx(2 / 24)  # any repeat is more than 1 % of 7 impressions


def test_items_rest_for_ever_in_a_log_without_repeats() -> None:
    found = measure_repeats(np.array([0, 0, 1]), np.arange(3), np.array([1, 2, 1]))
    assert found.model_dump() == {"share": 0.0, "impressions": None, "hours": None, "rest_days": "forever"}
    assert rest_ms(found.rest_days) == math.inf


@pytest.mark.parametrize(("doubled", "rest"), [(0, 14.0), (10, 14.0), (25, 0.0)])
def test_the_rest_of_a_platform_is_found_in_spite_of_rare_exceptions(doubled: int, rest: float) -> None:
    """Each of 10 users is shown one of 14 items per day, in turn, and some rows are logged twice."""
    day = np.tile(np.arange(200), (10, 1))
    user, timestamp, row = np.repeat(np.arange(10), 200), (day * DAY_MS).ravel().astype(np.int64), (day % 14).ravel()
    twice = np.sort(np.concatenate([np.arange(2000), 70 * np.arange(doubled)]))
    assert measure_repeats(user[twice], timestamp[twice], row[twice]).rest_days == rest


def test_few_repeats_do_not_end_the_rest() -> None:
    row = np.arange(1_000)
    row[500:505] = row[:5]
    found = measure_repeats(np.zeros(1_000, np.int64), np.arange(1_000), row)
    assert (found.share, found.impressions, found.rest_days) == (0.005, 500.0, "forever")


def test_an_item_rests_from_its_last_impression_on() -> None:
    shown = LastShown(2, 3)
    shown.show(np.array([0, 50]), np.array([1, 2]))
    shown.show(np.array([100, 60]), np.array([1, 0]))
    now = np.array([105, 105])
    assert shown.resting(now, 45.5).tolist() == [[False, True, False], [True, False, False]]
    assert shown.resting(now, math.inf).tolist() == [[False, True, False], [True, False, True]]
    assert not shown.resting(now, 5.0).any()
    shown.forget()
    assert not shown.resting(now, math.inf).any()
