"""Formats and units of times: candidates for the whole sample, and the more likely of two."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from prefrec_ray.inspection.columns import time_formats, time_unit
from prefrec_ray.inspection.proposal import source_lines
from prefrec_ray.inspection.roles import guess_roles

US, EUROPE = "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S"


def column(texts: list) -> pa.ChunkedArray:
    return pa.chunked_array([texts])


@pytest.mark.parametrize(("pattern", "other"), [(US, EUROPE), (EUROPE, US), ("%m-%d-%Y", "%d-%m-%Y")])
def test_days_that_could_be_months_are_read_as_the_shorter_span(pattern: str, other: str) -> None:
    days = pd.date_range("2024-01-02", "2024-01-09 23:00", freq="h")
    assert time_formats(column(days.strftime(pattern).tolist())) == [pattern, other]


def test_one_day_above_twelve_decides() -> None:
    days = [*pd.date_range("2024-01-02", "2024-01-12 23:00", freq="min"), pd.Timestamp("2024-02-13")]
    assert time_formats(column(pd.DatetimeIndex(days).strftime(US).tolist())) == [US]


def test_a_doubt_is_said_in_the_yaml() -> None:
    times = pd.date_range("2024-01-02", periods=40, freq="h").strftime(US)
    table = pa.table({"user": [1, 2] * 20, "item": [*range(20)] * 2, "time": times.tolist()})
    roles = guess_roles(table, "log")
    lines = source_lines(roles.source, roles.doubts)
    (line,) = [line for line in lines if line.startswith("time_format")]
    assert line.endswith(f"'{US}'  # or '{EUROPE}': which?")
    assert yaml.safe_load(line) == {"time_format": US}


@pytest.mark.parametrize("bad", ["soon", "0000-00-00", "2024-13-01"])
def test_a_few_times_may_be_bad(bad: str) -> None:
    for pattern in ("%Y-%m-%d", "%d.%m.%Y"):
        texts = pd.date_range("2023-01-02", periods=200).strftime(pattern).tolist()
        assert time_formats(column([bad, *texts])) == ["" if pattern == "%Y-%m-%d" else pattern]
        assert time_formats(column([bad] * 3 + texts)) == []


def test_a_few_numbers_may_be_no_times() -> None:
    seconds = np.arange(1_700_000_000, 1_700_000_200).tolist()
    assert time_unit(column([0, *seconds])) == "s"
    assert time_unit(column([0] * 3 + seconds)) is None
    assert time_unit(column(["soon", *map(str, seconds)])) == "s"  # as CSV with one bad cell
