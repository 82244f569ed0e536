"""Times with zones and formats against the standard library, and all bad ones at once."""

from datetime import UTC, datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.logs import values
from prefrec_ray.logs.contract import BadRows, Place
from prefrec_ray.logs.sources import FilesSource
from prefrec_ray.logs.values import to_milliseconds
from prefrec_ray.settings import parse

PLACE = Place("log.csv", 2, 10)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1))  # Arrow knows no daylight saving beyond


def column(values: list, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def is_shown(moment: datetime, zone: ZoneInfo) -> bool:
    return moment.replace(tzinfo=zone).astimezone(ZoneInfo("UTC")).astimezone(zone).replace(tzinfo=None) == moment


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@settings(deadline=None, max_examples=60)
@given(
    moments=st.lists(MOMENTS.map(lambda m: m.replace(microsecond=0)), min_size=1, max_size=20),
    zone=st.sampled_from(["Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_naive_times_are_of_the_zone(moments: list[datetime], zone: str) -> None:
    there = ZoneInfo(zone)
    # Hours that the clock skips are undefined; of repeated hours the first is meant (fold 0).
    real = [
        m
        for m in moments
        if m.replace(tzinfo=there).astimezone(ZoneInfo("UTC")).astimezone(there).replace(tzinfo=None) == m
    ]
    expected = [ms(m.replace(tzinfo=there, fold=0)) for m in real]
    for given_as in (column([m.isoformat() for m in real], pa.string()), column(real, pa.timestamp("us"))):
        assert to_milliseconds(given_as, None, PLACE, "t", zone).tolist() == expected
    shown = column([m.strftime("%d.%m.%Y %H:%M:%S") for m in real], pa.string())
    assert to_milliseconds(shown, None, PLACE, "t", zone, "%d.%m.%Y %H:%M:%S").tolist() == expected


def test_hours_that_a_clock_shows_twice_or_skips() -> None:
    twice, skipped = "2024-10-27T02:30:00", "2024-03-31T02:30:00"
    times = to_milliseconds(column([twice, skipped]), None, PLACE, "t", "Europe/Paris")
    expected = ["2024-10-27T00:30:00+00:00", "2024-03-31T01:00:00+00:00"]  # the first of both; when the clock moved
    assert times.tolist() == [ms(datetime.fromisoformat(text)) for text in expected]


def test_times_that_name_their_zone_keep_it() -> None:
    mixed = ["2024-02-29T12:00:00Z", "2024-02-29T12:00:00", "2024-02-29T12:00:00+02:00", "2024-02-29"]
    times = to_milliseconds(column(mixed), None, PLACE, "t", "Asia/Tokyo")
    noon = ms(datetime.fromisoformat("2024-02-29T12:00:00+00:00"))
    hour = 3_600_000
    assert times.tolist() == [noon, noon - 9 * hour, noon - 2 * hour, noon - 21 * hour]


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        (["5", "soon", "7", "", "1e99"], "s", [1, 3]),
        ([5, -1, 10**18], "s", [1, 2]),
        ([1.5, float("nan"), float("inf"), 2.0], "s", [1, 2]),
        (
            ["2024-01-01", "2024-13-01", "yesterday", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00+99:00"],
            None,
            [1, 2, 4],
        ),
        (["1969-12-31T23:59:59", "2024-01-01", "2200-01-01"], None, [0, 2]),
        (["2024-01-01", None, "2024-01-02"], None, [1]),
    ],
)
def test_all_bad_rows_are_found_at_once(values: list, unit: str | None, expected: list[int]) -> None:
    with pytest.raises(BadRows) as caught:
        to_milliseconds(column(values), unit, PLACE, "t")
    assert caught.value.rows.tolist() == expected
    assert str(caught.value).startswith(f"log.csv: column 't', row {11 + expected[0]}: ")


def test_text_of_another_format() -> None:
    with pytest.raises(BadRows, match=r"row 12: found '2024-01-01'; expected a time like %d/%m/%Y"):
        to_milliseconds(column(["31/12/2024", "2024-01-01"]), None, PLACE, "t", None, "%d/%m/%Y")


def test_decimals_dates_and_fractions() -> None:
    decimals = column([1.25, 2], pa.float64()).cast(pa.decimal128(10, 2))
    assert to_milliseconds(decimals, "s", PLACE, "t").tolist() == [1250, 2000]
    assert to_milliseconds(column([1], pa.date32()), None, PLACE, "t", "Asia/Tokyo").tolist() == [15 * 3_600_000]
    fraction = column([np.datetime64("2024-01-01T00:00:00.1239")], pa.timestamp("us"))
    assert to_milliseconds(fraction, None, PLACE, "t").tolist() == [1_704_067_200_123]


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("s"), pa.date32()])
def test_times_beyond_the_years_that_python_has(kind: pa.DataType) -> None:
    far = column([10**9], pa.int32() if kind == pa.date32() else pa.int64())
    far = far.cast(kind) if kind != pa.timestamp("ms") else column([10**18], pa.int64()).cast(kind)
    if kind == pa.timestamp("s"):
        far = column([10**12], pa.int64()).cast(kind)
    with pytest.raises(BadRows, match=r"row 11: found 10+; expected a time of 1970 to 2199"):
        to_milliseconds(far, None, PLACE, "t")


@pytest.mark.parametrize("pattern", ["%d/%m/%Y", "%d/%m/%Y %H:%M %z"])
def test_days_that_a_month_does_not_have(pattern: str) -> None:
    """The C library reads 31/02/2024 as 2 March."""
    days = ["31/01/2024", "31/02/2024", "02/03/2024", "29/02/2024", "29/02/2023", "31/04/2024"]
    texts = [day + ("" if pattern.endswith("Y") else " 12:30 +0100") for day in days]
    with pytest.raises(BadRows, match=r"row 12: found '31/02/2024.*'; expected a time like %d/%m/%Y") as caught:
        to_milliseconds(column(texts), None, PLACE, "t", None, pattern)
    assert caught.value.rows.tolist() == [1, 4, 5]
    good = to_milliseconds(column([texts[0], texts[2], texts[3]]), None, PLACE, "t", None, pattern)
    assert [datetime.fromtimestamp(ms / 1000, UTC).day for ms in good.tolist()] == [31, 2, 29]


def test_days_that_a_month_does_not_have_in_python_3_14(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("day 31 must be in range 1..29 for month 2 in year 2024")

    monkeypatch.setattr(values, "datetime", SimpleNamespace(strptime=refuse))
    with pytest.raises(BadRows, match="row 11: found '31/02/2024'"):
        to_milliseconds(column(["31/02/2024"]), None, PLACE, "t", None, "%d/%m/%Y")


@pytest.mark.parametrize("digits", [3, 6, 7, 9, 12])
@pytest.mark.parametrize("zone", ["", "Z", "+00:00"])
def test_fractions_of_any_length(digits: int, zone: str) -> None:
    times = column([f"2024-01-01T10:00:00.{'123456789012'[:digits]}{zone}", "2024-01-01 10:00:00"])
    assert to_milliseconds(times, None, PLACE, "t").tolist() == [1_704_103_200_123, 1_704_103_200_000]
    with pytest.raises(BadRows, match=r"row 11: found '2024-01-01T99:00:00.1234567Z'; expected a time in ISO 8601"):
        to_milliseconds(column(["2024-01-01T99:00:00.1234567Z"]), None, PLACE, "t")


def test_text_as_a_dictionary() -> None:
    for pattern, text in ((None, "2024-01-01"), ("%d/%m/%Y", "01/01/2024")):
        times = column([text, text]).dictionary_encode()
        assert to_milliseconds(times, None, PLACE, "t", None, pattern).tolist() == [1_704_067_200_000] * 2


@pytest.mark.parametrize(("directive", "words"), [("%Z", "use %z, or time_zone"), ("%f", "fractions of a second")])
def test_formats_that_would_not_be_read_in_full(directive: str, words: str) -> None:
    source = {"kind": "files", "path": "x", "user": "u", "item": "i", "time": "t"}
    with pytest.raises(UserError, match=rf"time_format: .*\({directive}\).*") as caught:
        parse(FilesSource, {**source, "time_format": f"%Y-%m-%d %H:%M:%S {directive}"}, "test")
    assert words in str(caught.value)
    assert parse(FilesSource, {**source, "time_format": f"%Y %{directive}"}, "test").time_format == f"%Y %{directive}"
