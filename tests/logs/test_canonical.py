"""Canonical columns from columns as given, and the one line for each kind of bad value."""

import numpy as np
import pyarrow as pa
import pytest
from conversion import converter

from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import ROWS_OF_FILE, Place
from prefrec_ray.logs.values import to_milliseconds, to_numbers

PLACE = Place("log.csv", 2, 10)


def column(values: list, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([1_700_000_000, 0], "s", [1_700_000_000_000, 0]),
        (["1700000000", "0"], "s", [1_700_000_000_000, 0]),
        ([1.5, 2.25], "s", [1500, 2250]),
        (["1.5", "2"], "s", [1500, 2000]),
        ([1_700_000_000_123], "ms", [1_700_000_000_123]),
        ([1_999], "us", [1]),
        ([1_999_999], "ns", [1]),
        (["2024-02-29T12:00:00", "1970-01-01 00:00:01.5"], None, [1_709_208_000_000, 1500]),
        (["2024-02-29T12:00:00Z", "2024-02-29T12:00:00+02:00"], None, [1_709_208_000_000, 1_709_200_800_000]),
    ],
)
def test_times(values: list, unit: str | None, expected: list[int]) -> None:
    assert to_milliseconds(column(values), unit, PLACE, "t").tolist() == expected


def test_timestamps_of_parquet_know_their_unit_and_zone() -> None:
    for kind in (pa.timestamp("ns"), pa.timestamp("s", "UTC"), pa.timestamp("us", "Asia/Tokyo")):
        assert to_milliseconds(column([5], pa.int64()).cast(kind), "s", PLACE, "t").tolist() == [
            5 * 1000 // {"ns": 10**9, "s": 1, "us": 10**6}[kind.unit]
        ]
    assert to_milliseconds(column([1], pa.date32()), None, PLACE, "t").tolist() == [86_400_000]


def test_numbers_may_be_words_and_flags() -> None:
    assert to_numbers(column(["true", "False"]), PLACE, "like").tolist() == [1.0, 0.0]
    assert to_numbers(column([True, False]), PLACE, "like").tolist() == [1.0, 0.0]
    assert to_numbers(column(["1", "2.5e1"]), PLACE, "like").tolist() == [1.0, 25.0]


def test_all_columns() -> None:
    table = pa.table(
        {
            "uid": ["a", "b"],
            "vid": pa.array([7, 8], pa.int32()),
            "at": [1, 2],
            "visit": [5, 6],
            "watched": [None, 2.5],
            "stars": pa.array([4, 5], pa.int8()),
            "worth": [0.1, 0.2],
            "chance": [None, 0.5],
        }
    )
    columns = converter(
        {"uid": pa.string()},
        user="uid",
        item="vid",
        time="at",
        time_unit="s",
        session="visit",
        dwell="watched",
        dwell_unit="s",
        feedback={"rating": "stars"},
        reward="worth",
        propensity="chance",
    )
    converted = columns(table, PLACE)
    assert converted.schema == pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.int64()),
            ("timestamp", pa.int64()),
            ("order", pa.int64()),
            ("session_id", pa.int64()),
            ("dwell_ms", pa.float64()),
            ("rating", pa.float32()),
            ("reward", pa.float32()),
            ("propensity", pa.float32()),
        ]
    )
    assert converted["order"].to_pylist() == [2 * ROWS_OF_FILE + 10, 2 * ROWS_OF_FILE + 11]
    assert converted["timestamp"].to_pylist() == [1000, 2000]
    np.testing.assert_array_equal(converted["dwell_ms"].to_numpy(), [np.nan, 2500.0])
    assert converted["rating"].to_pylist() == [4.0, 5.0]
    assert converted["propensity"].to_pylist() == [None, 0.5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"u": ["1", None]}, ["column 'u'", "row 12", "no id"]),
        ({"u": ["1", "x7"]}, ["column 'u'", "row 12", "'x7'", "integer"]),
        ({"i": [None, "2"]}, ["column 'i'", "row 11", "no id"]),
        ({"t": ["5", "soon"]}, ["column 't'", "row 12", "'soon'", "number of s"]),
        ({"t": ["5", None]}, ["column 't'", "row 12", "no time"]),
        ({"like": ["1", "much"]}, ["column 'like'", "row 12", "'much'", "a number"]),
        ({"like": ["nan", "1"]}, ["column 'like'", "row 11", "NaN", "finite"]),
        ({"like": ["1", None]}, ["column 'like'", "row 12", "nothing", "finite"]),
        ({"like": [1.0, float("-inf")]}, ["column 'like'", "row 12", "infinity", "finite"]),
        ({"dwell": ["1", "-3"]}, ["column 'dwell'", "row 12", "-3", "at least 0"]),
        ({"worth": [float("inf"), 1.0]}, ["column 'worth'", "row 11", "infinity"]),
        ({"chance": ["1.5", "1"]}, ["column 'chance'", "row 11", "1.5", "at most 1"]),
        ({"chance": ["1", "0"]}, ["column 'chance'", "row 12", "0", "above 0"]),
        ({"chance": ["1", "1e-60"]}, ["column 'chance'", "row 12", "1e-60", "above 0"]),
    ],
)
def test_bad_values_name_file_column_and_row(change: dict, words: list[str]) -> None:
    good = {"u": ["1", "2"], "i": ["1", "2"], "t": ["5", "6"], "like": ["0", "1"], "worth": [1, 2]}
    good["dwell"] = ["1", None]
    good["chance"] = ["1", None]
    columns = converter(time_unit="s", feedback=["like"], dwell="dwell", reward="worth", propensity="chance")
    columns(pa.table(good), PLACE)
    with pytest.raises(UserError) as caught:
        columns(pa.table(good | change), PLACE)
    message = str(caught.value)
    assert message.startswith("log.csv: ")
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_numbers_need_a_unit() -> None:
    with pytest.raises(UserError, match=r"log.csv: column 't': times are numbers; expected time_unit"):
        to_milliseconds(column([1]), None, PLACE, "t")


@pytest.mark.parametrize(
    ("page", "expected"), [("view", ["a", "a", "b"]), ("time", [1000, 1000, 2000])], ids=["column", "by time"]
)
def test_pages_are_a_column_or_equal_times(page: str, expected: list[object]) -> None:
    table = pa.table({"u": [1, 1, 1], "i": [7, 8, 9], "t": [1, 1, 2], "view": ["a", "a", "b"], "rank": ["0", "1", "0"]})
    rows = converter({"view": pa.string()}, time_unit="s", page=page, position="rank")(table, PLACE)
    assert rows["page"].to_pylist() == expected
    assert rows["position"] == column([0, 1, 0], pa.int32())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("view", None, "column 'view', row 11: no id; expected one in every row"),
        ("rank", -1, "column 'rank', row 11: found -1; expected a position on the page of 0 to 2147483647"),
        ("rank", 2**31, "column 'rank', row 11: found 2147483648; expected a position on the page of 0 to 2147483647"),
        ("rank", None, "column 'rank', row 11: no number; expected one in every row"),
        ("seen", 2, "column 'seen', row 11: found 2.0; expected 0 or 1"),
        ("seen", None, "column 'seen', row 11: found NaN or nothing; expected a finite number"),
    ],
)
def test_bad_pages_and_positions(name: str, value: int | None, expected: str) -> None:
    cells = {"u": 1, "i": 7, "t": 1, "view": 5, "rank": 0, "seen": 1} | {name: value}
    table = pa.table({key: pa.array([cell], pa.int64()) for key, cell in cells.items()})
    with pytest.raises(UserError, match=expected):
        converter(time_unit="s", page="view", position="rank", examined="seen")(table, PLACE)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"position": "rank"}, "position: found no page; expected a column of pages, or page: time"),
        ({"page": "i"}, "page: found the column 'i' of item; expected another column"),
    ],
)
def test_keys_of_pages_that_contradict(keys: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        converter(**keys)
