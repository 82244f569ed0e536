"""Scores and labels against a plain pandas computation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray import memory
from prefrec_ray.errors import UserError
from prefrec_ray.preferences.settings import PreferenceSettings
from prefrec_ray.preferences.teachers import SCORINGS, ScriptedTeacher, Sessions, label
from prefrec_ray.settings import parse

users = st.lists(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([np.nan, 0.0, 0.3, 1.0, 2.5, 5.0])), min_size=1, max_size=8),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=150)
@given(users=users, length=st.integers(1, 6), myopia=st.sampled_from([0.0, 0.1, 0.7]), data=st.data())
def test_scores_are_those_of_the_sessions_that_end_in_the_segment(
    users: list[list[tuple[int, float]]], length: int, myopia: float, data: st.DataObject
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
        weights = [(1 - myopia) ** (s + length - 1 - step) for step in seen.step]
        sums.append(sum(w * level for w, level in zip(weights, seen.level.fillna(0.0), strict=True)))
        means.append(sums[-1] / sum(weights) if weights else 0.0)
    np.testing.assert_allclose(SCORINGS["sum"](sessions, user, start, length, myopia), sums, atol=1e-9)
    np.testing.assert_allclose(SCORINGS["mean"](sessions, user, start, length, myopia), means, atol=1e-9)


def test_a_session_counts_where_its_last_request_lies() -> None:
    sessions = Sessions.from_depths(np.array([0]), np.array([3, 2, 4]), np.array([1.0, 2.0, 4.0]))  # last steps 2, 4, 8
    start = np.array([0, 1, 2, 3, 5])
    user = np.zeros(5, dtype=int)
    np.testing.assert_array_equal(SCORINGS["sum"](sessions, user, start, 3), [1, 1, 3, 2, 0])
    np.testing.assert_array_equal(SCORINGS["mean"](sessions, user, start, 3), [1, 1, 1.5, 2, 0])


def test_a_segment_beyond_the_last_request_has_no_session_of_the_next_user() -> None:
    sessions = Sessions.from_depths(np.array([0, 1]), np.array([1, 1]), np.array([1.0, 2.0]))
    assert SCORINGS["sum"](sessions, np.array([0]), np.array([0]), 3) == [1.0]


@pytest.mark.parametrize("count", [0, 2])
def test_no_segments_have_no_scores(count: int) -> None:
    none = np.zeros(0, dtype=np.int64)
    sessions = Sessions.from_depths(np.arange(count), np.ones(count, dtype=np.int64), np.ones(count))
    for scoring in SCORINGS.values():
        assert scoring(sessions, none, none, 3).tolist() == []


def test_labels() -> None:
    third = 0.1 + 0.2  # not 0.3 to the bit
    labels = label(np.array([1.0, 2.0, 3.0, 0.3]), np.array([2.0, 1.0, 3.0, third]))
    np.testing.assert_array_equal(labels, np.array([1, 0, 0.5, 0.5], dtype=np.float32))
    assert labels.dtype == np.float32


def test_a_mean_of_sessions_long_ago_keeps_its_weight() -> None:
    sessions = Sessions.from_depths(np.array([0]), np.array([1, 4000]), np.array([3.0, 1.0]))  # last steps 0 and 4000
    assert SCORINGS["mean"](sessions, np.array([0]), np.array([0]), 3000, 0.9) == [3.0]  # 0.1^2999 underflows


def test_a_threshold_makes_close_scores_equal() -> None:
    first, second = np.array([1.0, 1.0, 1.0, 1.0]), np.array([1.2, 1.25, 1.26, 0.7])
    expected = np.array([0.5, 0.5, 1, 0], dtype=np.float32)
    np.testing.assert_array_equal(label(first, second, threshold=0.25), expected)
    np.testing.assert_array_equal(ScriptedTeacher("sum", threshold=0.25).prefer(first, second), expected)


def test_flips_have_their_rate_leave_ties_alone_and_grow_with_it() -> None:
    score = np.random.default_rng(0).integers(0, 4, (2, 20_000)).astype(float)
    truth = ScriptedTeacher("sum").prefer(*score)
    turned = {rate: ScriptedTeacher("sum", flip=rate, seed=(5, 1)).prefer(*score) != truth for rate in (0.1, 0.3)}
    decided = truth != 0.5
    assert not turned[0.3][~decided].any()
    for rate, flips in turned.items():
        assert abs(flips[decided].mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / decided.sum())
    assert (turned[0.3] | ~turned[0.1]).all()
    other = ScriptedTeacher("sum", flip=0.1, seed=(5, 2)).prefer(*score) != truth
    assert 0.005 < (other & turned[0.1])[decided].mean() < 0.015  # another seed, other pairs


def test_a_teacher_prefers_the_segment_with_the_higher_score() -> None:
    sessions = Sessions.from_depths(np.array([0, 3]), np.array([2, 2, 2, 3, 3]), np.array([5.0, 0.0, 1.0, 2.0, 4.0]))
    sides = ((np.array([0, 0]), np.array([0, 2])), (np.array([1, 0]), np.array([0, 0])))
    # Scores 5 : 2 and 1 : 5; with myopia 0.05 : 0.2 and 1 : 0.05.
    for teacher, expected in ((ScriptedTeacher("sum"), [0, 1]), (ScriptedTeacher("sum", myopia=0.9), [1, 0])):
        scores = [teacher.score(sessions, user, start, 4) for user, start in sides]
        np.testing.assert_array_equal(teacher.prefer(*scores), np.array(expected, np.float32))


def test_names() -> None:
    within = {"pairing": "within_user", "scoring": "mean"}
    teachers = [within, within | {"flip": 0.1}, within | {"threshold": 2, "myopia": 0.05}, within | {"name": "Anna"}]
    settings = parse(PreferenceSettings, {"teachers": teachers}, "x")
    names = ["within_user_mean", "within_user_mean_flip0.1", "within_user_mean_threshold2_myopia0.05", "Anna"]
    assert [teacher.name for teacher in settings.teachers] == names
    assert parse(PreferenceSettings, settings.model_dump(mode="json"), "x") == settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"flip": 0.5}], ["flip", "less than 0.5"]),
        ([{"myopia": 1}], ["myopia", "less than 1"]),
        ([{"threshold": -1}], ["threshold", "greater than or equal to 0"]),
        ([{"name": "a/b"}], ["name", "a/b"]),
        ([{}, {}], ["two teachers are called 'any_users_sum'"]),
        ([{"name": "within_user_mean"}], ["'within_user_mean' is the name of a teacher that does not err"]),
        ([{"name": "any_users_sum", "flip": 0.1}], ["'any_users_sum' is the name of a teacher that does not err"]),
    ],
)
def test_teachers_that_make_no_sense(changes: list[dict], words: list[str]) -> None:
    teachers = [{"pairing": "any_users", "scoring": "sum", **change} for change in changes]
    with pytest.raises(UserError) as caught:
        parse(PreferenceSettings, {"teachers": teachers}, "my.yaml: prepare")
    assert all(word in str(caught.value) for word in ["my.yaml: prepare", *words])


def test_a_task_stands_once() -> None:
    with pytest.raises(UserError, match="key 'tasks': expected each task once, found"):
        parse(PreferenceSettings, {"tasks": ["depth", "mixture", "depth"]}, "a.yaml")


@pytest.mark.parametrize("key", ["pairs", "validation_pairs"])
def test_more_pairs_than_memory_holds_are_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "installed", lambda: 8 * 10**9)
    assert getattr(parse(PreferenceSettings, {key: 10**7}, "a.yaml"), key) == 10**7
    with pytest.raises(
        UserError, match=f"key '{key}': 1,000,000,000 pairs take 256.0 GB; expected at most 8.0 GB, the"
    ):
        parse(PreferenceSettings, {key: 10**9}, "a.yaml")
