"""Columns of well-known logs get the right roles, by their names and values."""

from datetime import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from inspect_logs import clickstream, lastfm, movielens

from prefrec_ray.errors import UserError
from prefrec_ray.inspection.columns import narrowest, time_unit, words
from prefrec_ray.inspection.roles import guess_roles

ABSENT = dict.fromkeys(["time_unit", "time_format", "session", "dwell", "dwell_unit", "reward", "propensity"])


def roles(frame: pd.DataFrame) -> SimpleNamespace:
    """Return the keys of the source (None: absent), the kind of each feedback, and the doubts and other columns."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    guess = guess_roles(table, "log")
    feedback = {f["column"]: f.get("kind", "number") for f in guess.source.get("feedback", {}).values()}
    keys = ABSENT | guess.source | {"feedback": feedback}
    return SimpleNamespace(**keys, doubts=guess.doubts, others=guess.others, describe=guess.describe)


def test_movielens() -> None:
    guess = roles(movielens(10))
    assert (guess.user, guess.item, guess.time, guess.time_unit) == ("userId", "movieId", "timestamp", "s")
    assert guess.feedback == {"rating": "number"}
    assert (guess.session, guess.dwell, guess.others) == (None, None, {})


def test_lastfm() -> None:
    guess = roles(lastfm(10))
    assert (guess.user, guess.item, guess.time, guess.time_unit) == ("userid", "track_id", "timestamp", None)
    assert guess.feedback == {}
    assert guess.others == {"artist_id": "text", "artist_name": "text", "track_name": "text"}


def test_clickstream() -> None:
    guess = roles(clickstream(10))
    assert (guess.user, guess.item, guess.time, guess.time_unit) == ("visitorid", "itemid", "timestamp", "ms")
    assert (guess.session, guess.dwell, guess.dwell_unit) == ("sessionId", "dwell_sec", "s")
    assert guess.feedback == {"event": "number", "bought": "binary", "price": "number"}
    assert guess.doubts.pop("price") == "empty cells count as 0: right?"
    assert guess.others == {"weekday": "a part of the time"}
    assert [guess.describe(c) for c in ("visitorid", "timestamp", "bought", "event")] == [
        "user",
        "time, ms",
        "feedback, binary",
        "feedback, events",
    ]


def paged(**columns: object) -> SimpleNamespace:
    """Two users with pages of three items."""
    rows = np.arange(60)
    frame = {"user": rows // 30, "item": rows % 20, "time": 1_600_000_000 + 60 * (rows // 3), "like": rows % 7 == 0}
    frame |= {"page": rows // 3, "position": rows % 3, "examined": rows % 3 < 2}
    return roles(pd.DataFrame({**frame, **columns}))


def test_columns_of_pages_are_no_feedback() -> None:
    guess = paged()
    assert (guess.page, guess.position, guess.examined) == ("page", "position", "examined")
    assert guess.feedback == {"like": "binary"}
    assert [guess.describe(name) for name in ("page", "position", "examined")] == ["page", "position", "examined"]
    other = paged(position=np.tile([0.5, 1.5, 2.5], 20))
    assert (other.page, hasattr(other, "position")) == ("page", False)


def test_a_page_of_a_site_that_several_users_visit_is_no_id_of_a_page() -> None:
    guess = paged(page=np.arange(60) % 3)
    assert not any(hasattr(guess, name) for name in ("page", "position", "examined"))


def test_music_whose_only_feedback_is_the_time_played() -> None:
    rng = np.random.default_rng(0)
    times = {"ts": 1_600_000_000 + 100 * np.arange(90), "ms_played": rng.integers(0, 300_000, 90)}
    guess = roles(pd.DataFrame({"user": np.arange(90) % 4, "track": np.arange(90) % 30, "artist": "x", **times}))
    assert (guess.item, guess.dwell, guess.dwell_unit) == ("track", "ms_played", "ms")
    assert guess.feedback == {"ms_played": "seconds"}
    assert guess.describe("ms_played") == "dwell, ms; feedback, seconds"


@pytest.mark.parametrize("text", [True, False])
def test_rare_kinds_of_events_are_feedback(text: bool) -> None:
    """Events are names or codes; empty cells do not count. A column with many values does not contain events."""
    events = ["view"] * 60 + ["buy"] * 20 + ["click"] * 30 + [None] * 10
    codes = {"view": 1, "click": 2, "buy": 3}
    kind = pd.array([name and codes[name] for name in events], "Int64") if not text else events
    frame = pd.DataFrame(
        {"user": np.arange(120) % 7, "item": np.arange(120) % 11, "ts": 1_600_000_000 + np.arange(120)}
    )
    table = pa.Table.from_pandas(frame.assign(behavior_type=kind, click=np.arange(120) % 2, event=np.arange(120)))
    source = guess_roles(table, "log").source
    rare = ["click", "buy"] if text else ["2", "3"]
    other = "buy" if text else "behavior_type_3"  # there is a column `click`
    assert source["feedback"] == {
        f"behavior_type_{rare[0]}": {"column": "behavior_type", "equals": rare[0]},
        other: {"column": "behavior_type", "equals": rare[1]},
        "click": {"column": "click", "kind": "binary"},
        "event": {"column": "event", "kind": "count"},
    }


def test_columns_with_one_value_per_item_or_user_are_not_feedback() -> None:
    frame = movielens(10)
    seen = frame.groupby("movieId").cumcount()
    frame = frame[(seen < 2) & frame.movieId.isin(frame.movieId[seen == 1])]
    guess = roles(
        frame.assign(price=frame.movieId % 7 * 1.5, age=frame.userId % 3 + 20, width=np.arange(len(frame)) % 4)
    )
    assert guess.others == {"price": "one value per item", "age": "one value per user"}
    assert guess.feedback == {"rating": "number", "width": "count"}
    once = frame.drop_duplicates("movieId")  # one row of each item shows nothing
    assert roles(once.assign(price=once.movieId * 1.5)).feedback == {"rating": "number", "price": "number"}


def test_a_session_of_two_users_is_none() -> None:
    frame = clickstream(10)
    assert roles(frame.assign(sessionId=frame.sessionId.str.partition("-")[2])).session is None


def test_names_in_other_words() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "event_time": pd.to_datetime(1_700_000_000 + np.arange(50) * 60, unit="s").strftime(
                "%Y-%m-%d %H:%M:%S UTC"
            ),
            "event_type": "view",
            "product_id": rng.integers(0, 9, 50),
            "category_id": rng.integers(0, 3, 50),
            "watch_time_ms": rng.integers(0, 90_000, 50),
            "pageViews": rng.integers(0, 9, 50),
            "watch_ratio": rng.random(50) * 2,
            "temperature": rng.normal(size=50),
            "liked": rng.random(50) < 0.3,
            "constant": 7,
            "customer_name": "A",
            "CustomerID": rng.integers(0, 4, 50),
            "reward": rng.random(50),
            "propensity": rng.random(50),
        }
    )
    guess = roles(frame)
    assert guess.propensity == "propensity"
    assert (guess.user, guess.item, guess.time) == ("CustomerID", "product_id", "event_time")
    assert (guess.time_unit, guess.time_format) == (None, "%Y-%m-%d %H:%M:%S UTC")
    assert guess.describe("event_time") == "time, %Y-%m-%d %H:%M:%S UTC"
    assert (guess.dwell, guess.dwell_unit, guess.reward) == ("watch_time_ms", "ms", "reward")
    kinds = {"pageViews": "count", "watch_ratio": "ratio", "temperature": "number", "liked": "binary"}
    assert guess.feedback == kinds
    assert guess.others["category_id"] == "an id"
    assert guess.others["constant"] == "one value"


def test_ratings_are_numbers_and_quantities_are_counts() -> None:
    frame = movielens(10)
    rows = len(frame)
    guess = roles(frame.assign(rating=np.arange(rows) % 5 + 1, quantity=np.arange(rows) % 5 + 1))
    assert guess.feedback == {"rating": "number", "quantity": "count"}


@pytest.mark.parametrize("clock", [["09:05", "23:59"], ["9:05:00 PM", "11:59:59 am"], [time(9, 5), time(23, 59)]])
def test_a_time_of_day_beside_the_date_is_named(clock: list) -> None:
    rows = len(frame := movielens(10))
    days = np.where(np.arange(rows) % 2, "2024-01-05", "2024-01-06")
    guess = roles(frame.assign(timestamp=days, hour=[clock[row % 2] for row in range(rows)], word="at 9:05"))
    assert guess.time == "timestamp"
    assert guess.others == {"hour": "a time of day: join it with the date in one column", "word": "text"}


def test_a_time_without_a_name_is_found_by_its_values() -> None:
    guess = roles(movielens(10).rename(columns={"timestamp": "moment"}))
    assert (guess.user, guess.item, guess.time) == ("userId", "movieId", "moment")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
def test_units_make_plausible_dates(unit: str, kind: pa.DataType) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    for second in (800_000_000, 1_234_567_890, 2_100_000_000):
        values = [second * per_second, None, (second + 5) * per_second]
        column = pa.chunked_array([values], pa.int64()).cast(kind, safe=False)
        assert time_unit(column) == unit


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([20220408, 20220409], None),  # a date as a number is not a time since 1970
        ([1, 2], None),
        ([1_600_000_000, 5], None),
        (["2020-01-31", "2020-02-01"], "iso"),
        (["2020-01-31T10:00:00+02:00", "2020-02-01 10:00:00"], "iso"),
        (["31/12/2020 10:00", "01/01/2021 11:30"], "iso"),
        (["1600000000", "x"], None),
        (["ten past ten", "eleven o'clock"], None),
        ([None], None),
    ],
)
def test_what_is_a_time(values: list, unit: str | None) -> None:
    assert time_unit(pa.chunked_array([values])) == unit


def test_words() -> None:
    for name in ("visitorId", "visitor_id", "VISITOR_ID", "visitorid", "VisitorID"):
        assert words(name) == ["visitor", "id"]
    assert words("is_paid") == ["is", "paid"]
    assert words("playTimeMs2") == ["play", "time", "ms"]


def test_text_that_is_numbers_is_numbers() -> None:
    texts = {"int64": ["1", "-2", None], "double": ["1.5", "2"], "bool": ["true", "False"], "string": ["1", "b"]}
    for kind, values in texts.items():
        assert str(narrowest(pa.chunked_array([values], pa.string())).type) == kind
    assert narrowest(pa.chunked_array([["007", "7"]])).type == pa.string()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"a": [1, 1], "item": [1, 2], "b": [3, 3], "time": [1.6e9, 1.7e9]}, "looks like a user"),
        ({"user": [1, 1], "item": [1, 2], "day": [3, 4]}, "looks like a time"),
        ({"user": [1, 1], "x": [0.5, 0.2], "time": [1.6e9, 1.7e9]}, "looks like an item"),
        ({"user": [1, 2], "item": [1, 2], "time": [1.6e9, 1.7e9]}, "looks like a user"),  # a new one in every row
    ],
)
def test_what_is_not_there_is_named(columns: dict, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        roles(pd.DataFrame(columns))
    assert expected in str(caught.value)
    assert [name for name in columns if name not in str(caught.value)] == []
