"""Hashes are uniform, independent by key, and the same for ever."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.ids import Mentions, Stream, codes, fraction, hash_ids, ids_from_text, mix, places_in_runs, taken_runs


def test_fractions_are_uniform_and_keys_independent() -> None:
    numbers = np.arange(100_000)
    one, other, third = (fraction(mix(numbers, *key)) for key in ((0, 1), (0, 2), (1, 1)))
    counts = np.histogram(one, bins=20, range=(0, 1))[0]
    assert np.abs(counts - 5000).max() < 5 * np.sqrt(5000)
    for x, y in ((one, other), (one, third), (one[1:], one[:-1])):
        assert abs(np.corrcoef(x, y)[0, 1]) < 0.015


def test_values_never_change() -> None:
    """Data sets made by an earlier version keep their splits."""
    assert mix(np.array([0, 1, -1]), 3, 5).tolist() == [8186871948090372919, 18212231304417430921, 6711370963749523826]
    assert hash_ids(pa.array(["Zoë", "b"]), 3).tolist() == [6608936497382248584, 8789827015126671974]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=4), min_size=1), st.data())
def test_a_text_hashes_alike_wherever_it_stands(texts: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    chunks = pa.chunked_array([texts[:cut], texts[cut:]], pa.string())
    alone = [int(hash_ids(pa.array([text]), 7)[0]) for text in texts]
    assert hash_ids(chunks, 7).tolist() == alone
    assert len(set(alone)) == len(set(texts))


def test_random_streams_never_change() -> None:
    """Data sets and runs made by an earlier version are made again, bit for bit."""
    numbers = {stream.name: stream.value for stream in Stream}
    assert list(numbers.values()) == [1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 0x57A7, 0x9AF5]
    assert list(numbers)[:4] == ["SPLIT", "BUCKET", "SHARD", "ORDER"]
    assert mix(np.arange(2), 3, Stream.SPLIT).tolist() == mix(np.arange(2), 3, 1).tolist()
    drawn = [np.random.default_rng((3, stream, 0)).integers(1 << 30) for stream in (Stream.PAIRS, 5)]
    assert drawn[0] == drawn[1]


def test_codes_are_equal_where_ids_are() -> None:
    assert codes(pa.chunked_array([["b", "b"], ["a", "b"]])).tolist() == [0, 0, 1, 0]
    assert codes(pa.chunked_array([[7, 7, 9]])).dtype == np.int64


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_runs_are_taken_whole_and_in_the_order_asked_for(lengths: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=5))
    ends = np.cumsum(lengths)
    starts, rows = taken_runs(ends - lengths, int(ends[-1]), np.array(chosen, dtype=np.int64))
    runs = [list(range(ends[run] - lengths[run], ends[run])) for run in chosen]
    assert rows.tolist() == [row for run in runs for row in run]
    assert [rows.tolist()[start] for start in starts] == [run[0] for run in runs]


@given(lengths=st.lists(st.integers(0, 4)))
def test_places_in_runs_count_from_0_in_each_run(lengths: list[int]) -> None:
    starts = np.array([sum(lengths[:number]) for number in range(len(lengths))], dtype=np.int64)
    assert places_in_runs(starts, sum(lengths)).tolist() == [place for length in lengths for place in range(length)]


def test_ids_from_text_are_those_that_a_column_may_contain() -> None:
    texts = ["7", "-3", "007", "x", "9223372036854775807", "9223372036854775808", "-0"]
    assert ids_from_text(texts, pa.int64()).to_pylist() == [7, -3, 9223372036854775807]
    assert ids_from_text(texts, pa.string()).to_pylist() == texts


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text("a4 .-", min_size=1, max_size=3), max_size=6), st.text("a4 .,-", max_size=12))
def test_an_id_with_a_letter_is_mentioned_as_a_regular_expression_finds_it(ids: list[str], text: str) -> None:
    """Texts without numbers, in which a point has no meaning of its own."""
    text, ids = text.replace("4", "b"), [one.replace("4", "b") for one in ids]
    expected = set()
    for one in ids:
        before, after = (r"(?<!\w)" if one[0].isalpha() else ""), (r"(?!\w)" if one[-1].isalpha() else "")
        if one == text or (re.search(r"\w", one) and re.search(before + re.escape(one) + after, text)):
            expected.add(one)
    assert Mentions(ids).find(text) == expected


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        ("4", True),
        (" 4", True),
        ("4.0", True),
        ("x;4.00;y", True),
        ('{"user": [4]}', True),
        ("found '4'; expected a number.", True),
        ("row 3 of user 4.", True),
        ("4.5", False),
        ("3.4", False),
        ("4.05", False),
        ("14", False),
        ("4th", False),
        ("1.4.0", False),
        ("", False),
    ],
)
def test_a_number_is_mentioned_as_a_whole(text: str, mentioned: bool) -> None:
    assert Mentions(["4"]).find(text) == ({"4"} if mentioned else set())


def test_an_id_without_a_letter_or_digit_is_the_whole_text() -> None:
    mentions = Mentions([" ", "", "-", "\u2028"])
    assert [mentions.find(text) for text in (" ", "a - b c", "-")] == [{" "}, set(), {"-"}]
