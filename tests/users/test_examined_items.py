"""Examined items of pages: against drawn users whose examination is known, and logs with items that nobody examined."""

import numpy as np
import pytest
from logged_users import ITEMS, histories, inputs_of, with_unexamined

from prefrec_ray.mdp.examination import Examination, examined_items
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.users.fit import KINDS, fit_member

THETA = np.array([1.0, 0.6, 0.4, 0.2])


def drawn_pages(gamma: float, count: int = 20_000) -> tuple[Pages, np.ndarray, np.ndarray, np.ndarray]:
    """Return pages of four items, the items, examinations by `THETA`, and feedback on examined items by `gamma`."""
    rng = np.random.default_rng(7)
    examined = (rng.random((count, 4)) < THETA).ravel()
    feedback = (examined & (rng.random(4 * count) < gamma))[:, None].astype(np.float32)
    pages = Pages.from_steps(np.array([0]), np.repeat(np.arange(count), 4), 4 * count)
    return pages, rng.integers(0, 20, 4 * count), examined, feedback


def test_feedback_on_every_examined_item_shows_which_were_examined() -> None:
    pages, row, examined, feedback = drawn_pages(gamma=1.0)
    np.testing.assert_array_equal(examined_items(pages, row, feedback), examined)


def test_items_without_feedback_count_as_examined_as_often_as_they_were() -> None:
    pages, row, examined, feedback = drawn_pages(gamma=0.3)
    found = examined_items(pages, row, feedback)
    assert found is not None
    assert found[feedback[:, 0] > 0].all()
    silent = feedback[:, 0] == 0
    for position in range(4):
        at = silent & (np.arange(len(row)) % 4 == position)
        assert found[at].mean() == pytest.approx(examined[at].mean(), abs=0.03)


def test_single_items_and_pages_without_feedback_count_as_examined() -> None:
    pages, row, _, feedback = drawn_pages(gamma=0.0, count=50)
    found = examined_items(pages, row, feedback)
    assert found is not None
    assert found.all()
    single = Pages.from_steps(np.array([0]), None, 200)
    assert examined_items(single, row, feedback) is None
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
