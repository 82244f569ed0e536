"""Sessions against a plain pandas computation on random logs."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.engagement import session_numbers, session_table, whole_dwell
from prefrec_ray.ids import first_rows

GAP = 100
gaps = st.sampled_from([0, 0, 1, 50, GAP - 1, GAP, GAP + 1, 250, 10_000])
request = st.tuples(gaps, st.sampled_from("pq"), st.sampled_from([None, 0.0, 3.4, 70.0, 500.0]))
logs = st.lists(st.lists(request, min_size=1, max_size=12), min_size=1, max_size=6)


def frame(histories, seed):
    """The log in random order, as a reader gives it; `order` breaks ties of time."""
    rows = []
    for user, history in enumerate(histories):
        now = 1_000 * user
        for gap, session, dwell in history:
            now += gap
            rows.append((f"user {user}", now, session, np.nan if dwell is None else dwell))
    log = pd.DataFrame(rows, columns=["user", "timestamp", "session", "dwell"])
    log["order"] = np.arange(len(log))
    return log.sample(frac=1.0, random_state=seed)


def expected_sessions(log, by_id):
    """One user after another, one request after another; then pandas' own group-by."""
    log = log.sort_values(["user", "timestamp", "order"]).reset_index(drop=True)
    numbers = []
    for _, history in log.groupby("user", sort=True):
        number = 0
        for i in range(len(history)):
            if i > 0:
                now, before = history.iloc[i], history.iloc[i - 1]
                apart = now.session != before.session if by_id else now.timestamp - before.timestamp > GAP
                number += int(apart)
            numbers.append(number)
    log["number"] = numbers
    sessions = log.groupby(["user", "number"], as_index=False).agg(
        start=("timestamp", "min"), last=("timestamp", "max"), depth=("timestamp", "size")
    )
    last = log.groupby(["user", "number"], as_index=False).tail(1)
    sessions["exit"] = sessions["last"] + last["dwell"].fillna(0).round().astype("int64").to_numpy()
    following = sessions.groupby("user")["start"].shift(-1)
    sessions["revisit"] = (following - sessions["exit"]).clip(lower=1).where(following.notna())
    return log, sessions


@settings(deadline=None, max_examples=60)
@given(logs, st.booleans(), st.booleans(), st.integers(0, 99))
def test_sessions_equal_pandas(histories, by_id, with_dwell, seed):
    log = frame(histories, seed)
    if not with_dwell:
        log["dwell"] = np.nan
    expected, sessions = expected_sessions(log, by_id)
    log = log.sort_values(["user", "timestamp", "order"])
    user, timestamp = log["user"].to_numpy().astype(str), log["timestamp"].to_numpy()
    number = session_numbers(user, timestamp, GAP, log["session"].to_numpy() if by_id else None)
    table = session_table(user, timestamp, number, log["dwell"].to_numpy() if with_dwell else None)

    np.testing.assert_array_equal(number, expected["number"])
    assert number.dtype == np.int64
    for mine, theirs in (
        (table.user, "user"),
        (table.session_index, "number"),
        (table.start, "start"),
        (table.exit, "exit"),
        (table.depth, "depth"),
        (table.revisit_ms, "revisit"),
    ):
        np.testing.assert_array_equal(mine, sessions[theirs].to_numpy())
    np.testing.assert_array_equal(np.cumsum(table.depth), [*table.first_row[1:], len(log)])


def test_a_gap_of_exactly_the_limit_stays_in_the_session():
    number = session_numbers(np.array([1, 1, 1]), np.array([0, GAP, 2 * GAP + 1]), GAP)
    assert number.tolist() == [0, 0, 1]


def test_ids_rule_over_gaps_and_may_come_back():
    user = np.array(["a"] * 4 + ["b"])
    number = session_numbers(user, np.array([0, 10**9, 10**9, 10**9, 10**9]), GAP, np.array([7, 7, 8, 7, 7]))
    assert number.tolist() == [0, 0, 1, 2, 0]


def test_revisit_is_at_least_one_millisecond():
    # The dwell of the first session runs past the start of the second.
    table = session_table(np.zeros(2), np.array([0, 200]), np.array([0, 1]), np.array([900.0, np.nan]))
    assert table.exit.tolist() == [900, 200]
    assert table.revisit_ms[0] == 1.0
    assert np.isnan(table.revisit_ms[1])


def test_times_and_numbers_are_int64_whatever_they_come_as():
    time, number = np.array([0, 7], dtype=np.int32), np.array([0, 1], dtype=np.int32)
    table = session_table(np.zeros(2), time, number, np.array([2.5, 3.5]))
    columns = (table.session_index, table.start, table.exit, table.depth, table.first_row)
    assert {column.dtype for column in columns} == {np.dtype(np.int64)}
    assert table.exit.tolist() == [2, 11]  # halves go to the even number


def test_a_dwell_that_is_none_is_unknown():
    assert whole_dwell(np.array([None, 3.4])).tolist() == [0, 3]


def test_no_rows():
    empty = np.zeros(0, dtype=np.int64)
    assert session_numbers(empty, empty, GAP).tolist() == []
    assert len(session_table(empty, empty, empty)) == 0
    assert first_rows(empty).tolist() == []
