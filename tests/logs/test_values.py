"""Ids and numbers: the bad rows of a column equal the bad rows of single values."""

import uuid

import numpy as np
import pyarrow as pa
import pytest
from conversion import converter
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.logs.contract import BadRows, Place
from prefrec_ray.logs.values import _LIKE, failing_rows, finite, padded, plain, to_ids, to_numbers

PLACE = Place("log.csv", 0)
#: Pieces of what numbers and mistakes are made of.
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["nan", "-inf", "+Infinity", "NAN(1)", "1e5", "1.", ".5", "0xAb", "1e", "9" * 30, "", "é", "0x"]
        ),
        st.text("0123456789+-.eExXaAnNiIfFtTyY()_ ", max_size=5),
        st.integers(-10, 10).map(str),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(texts=TEXTS, kind=st.sampled_from([pa.int64(), pa.float64()]))
def test_failing_rows(texts: list[str], kind: pa.DataType) -> None:
    def fails(text: str) -> bool:
        try:
            pa.scalar(text).cast(kind)
        except pa.ArrowInvalid:
            return True
        return False

    column = pa.chunked_array([pa.array(texts, pa.string())])
    assert failing_rows(column, kind, _LIKE[kind]).tolist() == [row for row, text in enumerate(texts) if fails(text)]


def test_numbers_among_words() -> None:
    column = pa.chunked_array([["true", "2.5", None, "FALSE"]])
    np.testing.assert_array_equal(to_numbers(column, PLACE, "x"), [1.0, 2.5, np.nan, 0.0])
    with pytest.raises(BadRows) as caught:
        to_numbers(pa.chunked_array([["true", "yes", "1", "no"]]), PLACE, "x")
    assert caught.value.rows.tolist() == [1, 3]


def test_ids_beyond_int64() -> None:
    with pytest.raises(
        BadRows, match=r"row 2: found 18446744073709551615; expected an integer id below 2\^63, or text"
    ):
        to_ids(pa.chunked_array([pa.array([1, 2**64 - 1], pa.uint64())]), pa.int64(), PLACE, "u")


@pytest.mark.parametrize(
    ("kind", "values", "bad", "words"),
    [
        ("binary", ["0", "2", "1", "0.5"], [1, 3], "found 2.0; expected 0 or 1"),
        ("count", ["1", "-1", "1.5"], [1, 2], "found -1.0; expected a whole number of at least 0"),
        ("seconds", ["1", "-0.5"], [1], "found -0.5; expected at least 0 seconds"),
        ("ratio", ["-1", "0"], [0], "found -1.0; expected a ratio of at least 0"),
        ("number", ["1", "inf", ""], [1], "found infinity; expected a finite number"),
    ],
)
def test_feedback_that_cannot_be(kind: str, values: list[str], bad: list[int], words: str) -> None:
    if kind == "number":
        values, bad = ["1", "inf", None], [1, 2]
    with pytest.raises(BadRows, match=words) as caught:
        converted(kind, values)
    assert caught.value.rows.tolist() == bad


def test_what_nothing_means() -> None:
    assert converted("count", ["1", None, "nan"], missing=2.0).tolist() == [1.0, 2.0, 2.0]
    with pytest.raises(BadRows, match="NaN or nothing"):
        converted("count", ["nan"])


def converted(kind: str, values: list, missing: float | None = None) -> np.ndarray:
    columns = converter(time_unit="s", feedback={"f": {"column": "f", "kind": kind, "missing": missing}})
    count = len(values)
    table = pa.table({"u": range(count), "i": range(count), "t": range(count), "f": pa.array(values, pa.string())})
    return columns(table, PLACE)["f"].to_numpy()


@pytest.mark.parametrize("text", ["007", "-0", "-07", "0x1F"])
def test_ids_that_would_merge_with_others_as_numbers(text: str) -> None:
    column = pa.chunked_array([["7", "0", "-7", text]])
    with pytest.raises(BadRows, match=rf"row 4: found '{text}'; expected an integer id without leading zeros"):
        to_ids(column, pa.int64(), PLACE, "u")
    assert to_ids(column, pa.string(), PLACE, "u").to_pylist() == column.to_pylist()


def test_ids_that_end_in_nul() -> None:
    with pytest.raises(BadRows, match=r"row 2: found 'a\\x00'; expected an id without NUL"):
        to_ids(pa.chunked_array([["a", "a\0"]]), pa.string(), PLACE, "u")


@pytest.mark.parametrize("value", [1e39, -1e39, 1.01e12, -1.01e12])
def test_numbers_whose_sums_overflow_as_float32(value: float) -> None:
    with pytest.raises(BadRows, match=r"row 3: found -?1.*; expected a number between -1e12 and 1e12"):
        finite(np.array([1e12, -1e12, value]), PLACE, "x")


@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize(("dwell", "found"), [(1e300, r"1e\+300"), (-3.0, "-3.0")])
def test_a_dwell_of_centuries_or_below_0_is_named_as_in_the_log(unit: str, dwell: float, found: str) -> None:
    columns = converter(time_unit="ms", dwell="d", dwell_unit=unit)
    table = pa.table({"u": [1], "i": [1], "t": [1], "d": [dwell]})
    with pytest.raises(BadRows, match=f"column 'd', row 1: found {found}; expected a dwell of at least 0"):
        columns(table, PLACE)


@given(st.from_regex(r"-?[0-9]{1,4}", fullmatch=True))
def test_padded_integers_are_those_that_numbers_are_not_written_as(text: str) -> None:
    assert padded(pa.array([text, "0.5", "7", None])).tolist() == [str(int(text)) != text, False, False, False]


@given(ids=st.lists(st.none() | st.uuids(), max_size=30), first=st.integers(0, 30), named=st.booleans())
def test_uuids_are_the_text_that_python_writes(ids: list[uuid.UUID | None], first: int, named: bool) -> None:
    column = pa.array([one and one.bytes for one in ids], pa.binary(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), column) if named else column
    texts = plain(pa.table({"id": pa.chunked_array([column[:7], column[7:]])}).slice(first))["id"]
    assert texts.type == pa.string()
    assert texts.to_pylist() == [one and str(one) for one in ids[first:]]
