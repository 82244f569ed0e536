"""The examination curve: closed forms, and the scatter of its estimates over drawn logs."""

import numpy as np
import pytest

from prefrec_ray.mdp.examination import fit_curve

THETA = np.array([0.8, 0.5, 0.2])


def test_one_item_gives_the_ratios_of_click_rates_and_their_errors() -> None:
    rows, clicks = np.array([400, 500, 900]), np.array([100, 50, 30])
    curve = fit_curve(np.zeros(3), np.array([4, 0, 9]), rows, clicks)
    assert curve is not None
    order = np.array([1, 0, 2])  # by position
    rate = (clicks / rows)[order]
    odds = (1 - rate) / (rows[order] * rate)
    assert curve.position.tolist() == [0, 4, 9]
    np.testing.assert_allclose(curve.examined, rate / rate[0], rtol=1e-6)
    # The delta method for a ratio of independent shares.
    np.testing.assert_allclose(curve.error[1:], (rate / rate[0] * np.sqrt(odds + odds[0]))[1:], rtol=1e-4)


def test_estimates_of_drawn_logs_are_right_and_scatter_as_their_errors() -> None:
    """Attractive items are shown at the top more often, so that rates of clicks fall more steeply than examination."""
    rng, gamma = np.random.default_rng(0), np.linspace(0.1, 0.9, 9)
    item, position = (part.ravel() for part in np.meshgrid(np.arange(9), np.arange(3), indexing="ij"))
    rows = np.where(position == 0, 40 + 60 * item, 500 - 50 * item)
    found, errors, plain = [], [], []
    for _ in range(150):
        clicks = rng.binomial(rows, THETA[position] * gamma[item])
        curve = fit_curve(item, position, rows, clicks)
        assert curve is not None
        found.append(curve.examined)
        errors.append(curve.error)
        plain.append(curve.clicks / curve.rows)
    truth = THETA / THETA[0]
    spread = np.std(found, axis=0)[1:]
    np.testing.assert_allclose(np.mean(found, axis=0)[1:], truth[1:], atol=4 * spread.max() / np.sqrt(150))
    np.testing.assert_allclose(np.mean(errors, axis=0)[1:], spread, rtol=0.2)
    rates = np.mean(plain, axis=0)
    assert (rates / rates[0] < 0.8 * truth)[1:].all()


def test_positions_that_share_no_item_have_no_error() -> None:
    curve = fit_curve(np.array([0, 1]), np.array([0, 1]), np.array([50, 50]), np.array([10, 5]))
    assert curve is not None
    assert np.isnan(curve.error[1])


@pytest.mark.parametrize("cells", [np.zeros(0, int), np.zeros(1, int)])
def test_a_log_without_clicks_has_no_curve(cells: np.ndarray) -> None:
    assert fit_curve(cells, cells, cells + 5, cells) is None
