"""Scores and labels against a plain pandas computation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray import memory
from prefrec_ray.errors import UserError
from prefrec_ray.preferences import SCORINGS, PreferenceSettings, Sessions, find_scoring, label
from prefrec_ray.settings import parse

users = st.lists(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([np.nan, 0.0, 0.3, 1.0, 2.5, 5.0])), min_size=1, max_size=8),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=150)
@given(users=users, length=st.integers(1, 6), data=st.data())
def test_scores_are_those_of_the_sessions_that_end_in_the_segment(
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
    sessions = Sessions.from_depths(starts, depth, level)
    sums, means = [], []
    for u, s in zip(user, start, strict=True):
        seen = last[(last.user == u) & last.step.between(s, s + length - 1)]
        sums.append(seen.level.fillna(0.0).sum())
        means.append(sums[-1] / len(seen) if len(seen) else 0.0)
    np.testing.assert_allclose(find_scoring("sum")(sessions, user, start, length), sums, atol=1e-9)
    np.testing.assert_allclose(find_scoring("mean")(sessions, user, start, length), means, atol=1e-9)


def test_a_session_counts_where_its_last_request_lies() -> None:
    sessions = Sessions.from_depths(np.array([0]), np.array([3, 2, 4]), np.array([1.0, 2.0, 4.0]))  # last steps 2, 4, 8
    start = np.array([0, 1, 2, 3, 5])
    user = np.zeros(5, dtype=int)
    np.testing.assert_array_equal(find_scoring("sum")(sessions, user, start, 3), [1, 1, 3, 2, 0])
    np.testing.assert_array_equal(find_scoring("mean")(sessions, user, start, 3), [1, 1, 1.5, 2, 0])


def test_a_segment_beyond_the_last_request_has_no_session_of_the_next_user() -> None:
    sessions = Sessions.from_depths(np.array([0, 1]), np.array([1, 1]), np.array([1.0, 2.0]))
    assert find_scoring("sum")(sessions, np.array([0]), np.array([0]), 3) == [1.0]


@pytest.mark.parametrize("count", [0, 2])
def test_no_segments_have_no_scores(count: int) -> None:
    none = np.zeros(0, dtype=np.int64)
    sessions = Sessions.from_depths(np.arange(count), np.ones(count, dtype=np.int64), np.ones(count))
    for scoring in map(find_scoring, SCORINGS):
        assert scoring(sessions, none, none, 3).tolist() == []


def test_labels() -> None:
    third = 0.1 + 0.2  # not 0.3 to the bit
    labels = label(np.array([1.0, 2.0, 3.0, 0.3]), np.array([2.0, 1.0, 3.0, third]))
    np.testing.assert_array_equal(labels, np.array([1, 0, 0.5, 0.5], dtype=np.float32))
    assert labels.dtype == np.float32


def test_names() -> None:
    settings = parse(PreferenceSettings, {"teachers": [{"pairing": "within_user", "scoring": "mean"}]}, "x")
    assert [teacher.name for teacher in settings.teachers] == ["within_user_mean"]
    assert parse(PreferenceSettings, settings.model_dump(mode="json"), "x") == settings


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"tasks": ["depth", "mixture", "depth"]}, "key 'tasks': expected each one once, found"),
        (
            {"teachers": 2 * [{"pairing": "any_users", "scoring": "sum"}]},
            "key 'teachers': expected each one once",
        ),
        ({"teachers": [{"pairing": "any_users", "scoring": "most"}]}, "scoring"),
    ],
)
def test_teachers_and_tasks_that_make_no_sense(keys: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(PreferenceSettings, keys, "a.yaml")


@pytest.mark.parametrize("key", ["pairs", "validation_pairs"])
def test_more_pairs_than_memory_holds_are_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "installed", lambda: 8 * 10**9)
    assert getattr(parse(PreferenceSettings, {key: 10**7}, "a.yaml"), key) == 10**7
    with pytest.raises(
        UserError, match=f"key '{key}': 1,000,000,000 pairs take 256.0 GB; expected at most 8.0 GB, the"
    ):
        parse(PreferenceSettings, {key: 10**9}, "a.yaml")
