"""The cells of the length-only control, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.evaluation.estimators.ncis import length_only_weights


def plain(depth: list[float], weight: list[float], bins: int) -> list[float]:
    """A session's cell is the number of inner quantiles at or below its relative depth."""
    edges = sorted({float(np.quantile(depth, k / bins)) for k in range(1, bins)})
    cells = [sum(edge <= d for edge in edges) for d in depth]
    return [float(np.mean([w for w, other in zip(weight, cells, strict=True) if other == cell])) for cell in cells]


@pytest.mark.parametrize("bins", [1, 2, 3, 10])
@pytest.mark.parametrize("values", [3, 20, 10_000])
def test_a_weight_is_the_mean_of_its_cell(bins: int, values: int) -> None:
    rng = np.random.default_rng(bins)
    depth, weight = rng.integers(1, values, 101) / 4, rng.random(101)
    means = length_only_weights(depth, weight, bins)
    np.testing.assert_allclose(means, plain(depth.tolist(), weight.tolist(), bins))


def test_there_are_ten_cells_and_a_depth_at_an_edge_is_above_it() -> None:
    depth, weight = np.arange(1.0, 102.0), np.arange(101.0) ** 2
    np.testing.assert_allclose(length_only_weights(depth, weight), plain(depth.tolist(), weight.tolist(), 10))
    np.testing.assert_allclose(length_only_weights(np.array([1.0, 2, 3]), np.array([1.0, 2, 4]), 2), [1, 3, 3])
