"""Are the estimates for pages of items equal to those of the Open Bandit Pipeline, on the data of its own simulator?

    python -m benchmarks pages --obp PYTHON [--pages 2000] [--seeds 0 1 2]

PYTHON is the interpreter of an environment of its own with sb-obp 0.5.10. Pages of three of six items are drawn from a
softmax of a linear function of the context, without repeats or independently (factorizable); the policy is another such
softmax. Q of cascade-DR is the pipeline's linear regression.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import obp_side
from prefrec_ray.evaluation.estimators.session_weights import PAGE_WEIGHTS, page_log_weights
from prefrec_ray.ids import run_lengths

OBP = Path(os.environ.get("OBP") or "python")
ITEMS, LENGTH = 6, 3
STRUCTURES = ("standard_additive", "cascade_additive", "independent")


def main(obp: Path = OBP, pages: int = 2000, seeds: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
    """Prints the largest difference of each estimator."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for structure, independent, seed in product(STRUCTURES, (False, True), seeds):
            task = {"structure": structure, "independent_draws": independent, "seed": seed, "pages": pages}
            file = f"{folder}/result.npz"
            command = [obp, obp_side.__file__, json.dumps({**task, "items": ITEMS, "length": LENGTH}), file]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with np.load(file) as result:
                rows += [{**task, **row} for row in compare(result)]
    for name in dict.fromkeys(row["estimator"] for row in rows):
        print(f"{name:18} {max(row['difference'] for row in rows if row['estimator'] == name):.1e}")
    return {"runs": rows}


def compare(theirs: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yield estimator, our estimate, its difference from theirs, and the true value."""
    for name, estimate in own_estimates(theirs).items():
        difference = abs(estimate - float(theirs[name]))
        yield {"estimator": name, "estimate": estimate, "difference": difference, "truth": float(theirs["truth"])}


def own_estimates(log: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the product's estimates on the arrays of obp_side.py, by the pipeline's names."""
    first = np.arange(0, len(log["reward"]), LENGTH)
    ratio = np.log(log["policy"] / log["logging"])
    of_position = np.log(log["policy_of_position"] / log["logging_of_position"])
    estimates = {"cascade-DR": float(cascade_dr(log["reward"], ratio, log["q"], log["v"], first).mean())}
    for weights, normalised in product(PAGE_WEIGHTS, (False, True)):
        log_weight = page_log_weights(of_position if weights == "iips" else ratio, first, weights)
        values = page_values(log["reward"], log_weight, first, normalised)
        estimates[weights + ", normalised" * normalised] = float(values.mean())
    return estimates


def page_values(reward: np.ndarray, log_weight: np.ndarray, first: np.ndarray, normalised: bool = False) -> np.ndarray:
    """Return the estimated value of each page, float64 [P], in units of the reward; their mean estimates pi's value.

        V_i = sum over positions l of w_il r_il

    `reward` float64 [N]; `log_weight` float64 [N] is the result of `page_log_weights`. `normalised`: w_il is divided by
    its mean over the pages with a position l, which is biased but consistent, and has a smaller variance.

    References: McInerney et al. 2020; self-normalised: Swaminathan and Joachims 2015, "The Self-Normalized Estimator
    for Counterfactual Learning".
    """
    weight = np.exp(log_weight)
    if normalised:
        position = np.arange(len(weight)) - np.repeat(first, run_lengths(first, len(weight)))
        weight = weight / (np.bincount(position, weight) / np.bincount(position))[position]
    return np.add.reduceat(weight * reward, first)


def cascade_dr(
    reward: np.ndarray, log_ratio: np.ndarray, q: np.ndarray, v: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """Return the estimated value of each page by cascade-DR, float64 [P], in units of the reward.

        V_i = sum over positions l of w_il (r_il - q_il) + w_i(l-1) v_il,    w_il = rho_i1 ... rho_il,    w_i0 = 1

    `q` float64 [N] is Q_l(s, a_1..a_l), an estimate of the rewards from position l on; `v` float64 [N] is its mean over
    the policy's items at position l, sum over a of pi(a | s, a_1..a_(l-1)) Q_l(s, a_1..a_(l-1), a). The estimate is
    unbiased for any Q if rewards depend on items up to their own only. With q = v = 0 it equals RIPS.

    Reference: Kiyohara et al. 2022, "Doubly Robust Off-Policy Evaluation for Ranking Policies under the Cascade
    Behavior Model", Section 3.1.
    """
    weight = np.exp(page_log_weights(log_ratio, first, "rips"))
    before = np.roll(weight, 1)
    before[first] = 1.0
    return np.add.reduceat(weight * (reward - q) + before * v, first)
