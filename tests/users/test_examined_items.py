"""Examined items of pages, compared with drawn users whose examination is known; logs with unexamined items."""

import numpy as np
import pytest
from logged_users import ITEMS, histories, inputs_of, with_unexamined

from prefrec_ray.mdp.examination import Examination, examined_items
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.users.fit import KINDS, fit_member

THETA = np.array([1.0, 0.6, 0.4, 0.2])


def drawn_pages(
    gamma: float, count: int = 20_000, theta: np.ndarray = THETA
) -> tuple[Pages, np.ndarray, np.ndarray, np.ndarray]:
    """Return pages of four items, the items, examinations by `theta`, and reactions to examined items by `gamma`."""
    rng = np.random.default_rng(7)
    examined = (rng.random((count, 4)) < theta).ravel()
    reacted = examined & (rng.random(4 * count) < gamma)
    pages = Pages.from_steps(np.array([0]), np.repeat(np.arange(count), 4), 4 * count)
    return pages, rng.integers(0, 20, 4 * count), examined, reacted


def found_in(pages: Pages, row: np.ndarray, reacted: np.ndarray, training: np.ndarray | None = None) -> np.ndarray:
    training = np.ones(len(row), bool) if training is None else training
    return examined_items(pages, row, reacted, training, np.random.default_rng(3))


def test_feedback_on_every_examined_item_shows_which_were_examined() -> None:
    pages, row, examined, reacted = drawn_pages(gamma=1.0)
    np.testing.assert_array_equal(found_in(pages, row, reacted), examined)


def test_items_without_feedback_count_as_examined_as_often_as_they_were() -> None:
    pages, row, examined, reacted = drawn_pages(gamma=0.3)
    found = found_in(pages, row, reacted)
    assert found[reacted].all()
    for position in range(4):
        at = ~reacted & (np.arange(len(row)) % 4 == position)
        assert found[at].mean() == pytest.approx(examined[at].mean(), abs=0.03)


def test_the_model_is_fitted_to_training_users_only() -> None:
    pages, row, _, reacted = drawn_pages(gamma=0.3)
    training = np.arange(len(row)) < len(row) // 2
    other = reacted.copy()
    other[~training] = True
    first, second = (found_in(pages, row, clicks, training) for clicks in (reacted, other))
    np.testing.assert_array_equal(first[training], second[training])


@pytest.mark.parametrize(("gamma", "count"), [(0.0, 50), (0.3, 300), (0.3, 20_000)])
def test_all_items_count_if_no_position_is_clearly_examined_less(gamma: float, count: int) -> None:
    pages, row, _, reacted = drawn_pages(gamma, count, theta=np.ones(4))
    assert found_in(pages, row, reacted).all()


def test_single_items_count_as_examined() -> None:
    single = Pages.from_steps(np.array([0]), None, 200)
    assert found_in(single, np.zeros(200, np.int64), np.zeros(200, bool)).all()
    assert Examination.from_pages(single, None) is None


def test_drawn_examinations_depend_on_the_position_and_the_last_examined_item() -> None:
    """Users who skip an item have often left: they examine the next one with .1 instead of .7."""
    rng, count = np.random.default_rng(1), 20_000
    examined = np.ones((count, 3), dtype=bool)
    examined[:, 1] = rng.random(count) < 0.7
    examined[:, 2] = rng.random(count) < np.where(examined[:, 1], 0.7, 0.1)
    pages = Pages.from_steps(np.array([0]), np.repeat(np.arange(count), 3), 3 * count)
    examination = Examination.from_pages(pages, examined.ravel())
    assert examination is not None
    drawn = examination.draw(count, 3, np.random.default_rng(2))
    assert drawn[:, 0].all()
    assert drawn[:, 1].mean() == pytest.approx(0.7, abs=0.02)
    assert drawn[drawn[:, 1], 2].mean() == pytest.approx(0.7, abs=0.02)
    assert drawn[~drawn[:, 1], 2].mean() == pytest.approx(0.1, abs=0.02)


def test_items_that_nobody_examined_change_nothing() -> None:
    data = histories(users=40)
    double = with_unexamined(data)
    assert (data.shown_per_examined, double.shown_per_examined) == (1, 2)
    thinned = double.examined_only(ITEMS.kinds)
    for name in ("starts", "row", "exposure", "feedback", "ends", "away_ms", "opens"):
        np.testing.assert_array_equal(getattr(thinned, name), getattr(data, name), err_msg=name)
    members = []
    for log in (data, thinned):
        inputs, logged = inputs_of(log)
        members.append(fit_member(KINDS[0], inputs, log, inputs.scaled(logged), seed=0))
    for one, other in zip(members[0].answers.parameters(), members[1].answers.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
