"""Measures of guard-rails against closed forms, in roll-outs with known items and feedback."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prefrec_ray.errors import UserError
from prefrec_ray.guard_rails import GuardRail, check_rails
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import KindNames
from prefrec_ray.users.measures import broken, excess, measure
from prefrec_ray.users.roll_out import Imagined

FEEDBACK = ("like", "share")
NAMES = (KindNames("cluster", {"0": 0}), KindNames("category", {"news": 3, "pop": 4}))
#: Items 0 and 1 are news, item 2 is pop, item 3 has no category.
ITEMS = ItemTable(np.arange(4), np.eye(4), kind_codes=np.array([[0, 3], [0, 3], [0, 4], [0, -1]]), kind_names=NAMES)


def imagined(rows: Any, likes: Any = 0.0, **changes: Any) -> Imagined:
    """A roll-out in K models with the item rows [K, n, R] and the mean likes [K, n]."""
    rows = np.asarray(rows, np.int32)
    ones = np.ones(rows.shape[:2])
    feedback = np.stack([likes * ones, 0.5 * ones], axis=2)
    fields = {"depth": ones, "revisit_hours": ones, "daily_sessions": ones, "feedback": feedback, **changes}
    nothing = np.zeros(0)
    return Imagined(levels={}, parts={}, inputs=nothing, part=nothing, counts=nothing, sessions=1, rows=rows, **fields)


def measured(text: str, roll_out: Imagined) -> np.ndarray:
    return measure(GuardRail.from_text(text), roll_out, FEEDBACK, ITEMS)


def test_measures_of_users_and_items_have_closed_forms() -> None:
    rows = [[[0, 1, 2, 3], [0, 0, 0, 0]], [[2, 2, 3, 3], [3, 3, 3, 3]]]
    likes = np.array([[0.1, 0.2], [0.3, 0.4]])
    shown = imagined(rows, likes, depth=10 * likes, revisit_hours=20 * likes, daily_sessions=30 * likes)
    for text, factor in (
        ("feedback.like >= -2 %", 1),
        ("depth >= -2 %", 10),
        ("hours_to_return <= 2 %", 20),
        ("sessions >= -2 %", 30),
    ):
        np.testing.assert_allclose(measured(text, shown)[:, :, 0], factor * likes)
    np.testing.assert_allclose(measured("feedback.share >= -2 %", shown), 0.5)
    news = measured("share[category: news] >= 5 %", shown)[:, :, 0]
    assert news.tolist() == [[0.5, 1.0], [0.0, 0.0]]
    assert measured("share[category: pop] >= 5 %", shown)[:, :, 0].tolist() == [[0.25, 0.0], [0.5, 0.0]]
    # News are more frequent than pop; items without a category do not count as one.
    np.testing.assert_array_equal(measured("exposure[category] <= 10 %", shown)[:, :, 0], news)
    assert measured("exposure[category] <= 10 %", shown).shape == (2, 2, 2)
    assert (measured("exposure[category] <= 10 %", imagined([[[3, 3]]])) == 0).all()


rows = arrays(np.int32, (2, 3, 8), elements=st.integers(0, 3))


@given(rows, rows)
def test_a_policy_that_acts_like_the_reference_keeps_every_limit_and_its_opposite_breaks(
    shown: np.ndarray, likes: np.ndarray
) -> None:
    values = 0.1 + likes.mean(axis=2)
    dislikes = imagined(shown, -values)
    assert broken([GuardRail.from_text("feedback.like >= -2 %")], dislikes, dislikes, FEEDBACK, ITEMS) == []
    one = imagined(shown, values)
    for text in ("feedback.like >= -2 %", "feedback.like <= 2 %", "depth >= -5 %", "hours_to_return <= 1 %"):
        rail = GuardRail.from_text(text)
        assert broken([rail], one, one, FEEDBACK, ITEMS) == []
        of_one = measured(text, one)
        np.testing.assert_allclose(abs(excess(rail, of_one, of_one)[:, :, 0]), abs(rail.limit) * of_one[:, :, 0])
    forced = GuardRail.from_text("feedback.like >= 2 %")
    assert broken([forced], one, one, FEEDBACK, ITEMS) == [str(forced)]


@given(rows)
def test_shares_of_a_kind_and_of_items_without_it_sum_to_one(shown: np.ndarray) -> None:
    one = imagined(shown)
    total = sum(measured(f"share[category: {value}] >= 5 %", one)[:, :, 0] for value in ("news", "pop"))
    np.testing.assert_allclose(total + (shown == 3).mean(axis=2), 1.0)
    largest = measured("exposure[category] <= 10 %", one).mean(axis=(0, 1)).max()
    every = [measured(f"share[category: {value}] >= 5 %", one).mean() for value in ("news", "pop")]
    assert largest == pytest.approx(max(every))


def test_one_model_is_enough_to_break_a_limit() -> None:
    """The first model has 4 % fewer likes, the second 8 % more. A user without the measure does not count."""
    hours = np.array([[10.0, np.nan], [10.0, 30.0]])
    reference = imagined(np.zeros((2, 2, 4)), 0.5, revisit_hours=hours)
    own = imagined(np.zeros((2, 2, 4)), np.array([[0.48], [0.54]]), revisit_hours=1.05 * hours)
    rails = [GuardRail.from_text(text) for text in ("feedback.like >= -2 %", "hours_to_return <= 6 %")]
    assert broken(rails, own, reference, FEEDBACK, ITEMS) == ["feedback.like >= -2 %"]
    assert broken(rails[:1], reference, own, FEEDBACK, ITEMS) == ["feedback.like >= -2 %"]  # the second model
    assert broken([GuardRail.from_text("hours_to_return <= 4 %")], own, reference, FEEDBACK, ITEMS) != []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feedback.likes >= -2 %", "found feedback 'likes'; expected one of like, share"),
        ("exposure[maker] <= 10 %", "items: found kind 'maker'; expected one of cluster, category"),
        ("share[category: sport] >= 5 %", "category: found value 'sport'; expected one of news, pop"),
    ],
)
def test_an_unknown_name_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_rails([GuardRail.from_text(text)], FEEDBACK, ITEMS)
    assert str(error.value) == f"evaluate.guard_rails: '{text}': {message}"
