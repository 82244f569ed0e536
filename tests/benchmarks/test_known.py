"""Policies of known truth, and what their intervals are made of."""

import numpy as np
import pytest

from benchmarks.truth.known import Soft, _parts


def test_items_are_drawn_by_their_chances() -> None:
    chances = np.array([[1.0, 0.0, 3.0], [0.0, 2.0, 0.0]])
    server = Soft(chances, np.array([7, 8, 9]), np.random.default_rng(0))
    shown = np.array([server.serve(np.zeros(2), None).rows for _ in range(4000)])
    assert np.mean(shown[:, 0] == 9) == pytest.approx(0.75, abs=0.03)
    assert set(shown[:, 0]) == {7, 9}
    assert set(shown[:, 1]) == {8}


def test_an_interval_is_taken_apart() -> None:
    rng = np.random.default_rng(0)
    users, models, luck = rng.normal(0, 2.0, 4000), np.array([-0.3, 0.0, 0.3]), rng.normal(0, 1.0, (3, 4000))
    parts = _parts(1 + users + models[:, None] + luck)
    assert parts["luck"] == pytest.approx(1.96 / np.sqrt(3 * 4000), rel=0.03)
    assert parts["users"] == pytest.approx(1.96 * np.sqrt(4 + 1 / 3) / np.sqrt(4000), rel=0.03)
    assert parts["models"] == pytest.approx(0.3, abs=0.04)
