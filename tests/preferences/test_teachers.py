"""Scores and labels against a plain pandas computation."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.preferences.teachers import SCORINGS, Visits, label

users = st.lists(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([np.nan, 0.0, 0.3, 1.0, 2.5, 5.0])), min_size=1, max_size=8),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=150)
@given(users=users, length=st.integers(1, 6), data=st.data())
def test_scores_are_those_of_the_visits_that_end_in_the_segment(
    users: list[list[tuple[int, float]]], length: int, data: st.DataObject
) -> None:
    rows = [
        {"user": user, "session": number, "level": level}
        for user, sessions in enumerate(users)
        for number, (depth, level) in enumerate(sessions)
        for _ in range(depth)
    ]
    requests = pd.DataFrame(rows)
    requests["step"] = requests.groupby("user").cumcount()
    last = requests.groupby(["user", "session"]).tail(1)

    user = np.array(data.draw(st.lists(st.integers(0, len(users) - 1), min_size=1, max_size=10)))
    most = requests.groupby("user").size()
    start = np.array([data.draw(st.integers(0, most[u] - 1)) for u in user])

    depth = np.array([depth for sessions in users for depth, _ in sessions])
    level = np.array([level for sessions in users for _, level in sessions])
    starts = np.cumsum([0, *(len(sessions) for sessions in users[:-1])])
    visits = Visits.of(starts, depth, level)
    for name, plain in (("sum", pd.Series.sum), ("mean", pd.Series.mean)):
        expected = [
            plain(last[(last.user == u) & last.step.between(s, s + length - 1)].level.fillna(0.0))
            for u, s in zip(user, start, strict=True)
        ]
        np.testing.assert_allclose(SCORINGS[name](visits, user, start, length), np.nan_to_num(expected), atol=1e-9)


def test_a_visit_counts_where_its_last_request_lies() -> None:
    visits = Visits.of(np.array([0]), np.array([3, 2, 4]), np.array([1.0, 2.0, 4.0]))  # last steps 2, 4, 8
    start = np.array([0, 1, 2, 3, 5])
    user = np.zeros(5, dtype=int)
    np.testing.assert_array_equal(SCORINGS["sum"](visits, user, start, 3), [1, 1, 3, 2, 0])
    np.testing.assert_array_equal(SCORINGS["mean"](visits, user, start, 3), [1, 1, 1.5, 2, 0])


def test_labels() -> None:
    third = 0.1 + 0.2  # not 0.3 to the bit
    found = label(np.array([1.0, 2.0, 3.0, 0.3]), np.array([2.0, 1.0, 3.0, third]))
    np.testing.assert_array_equal(found, np.array([1, 0, 0.5, 0.5], dtype=np.float32))
    assert found.dtype == np.float32
