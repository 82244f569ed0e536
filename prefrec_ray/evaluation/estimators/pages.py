"""Off-policy estimates for pages of items: SIPS, RIPS, IIPS and cascade-DR.

Arrays have one entry per impression, N in all. The impressions of a page are adjacent, in order of position; `first`
int64 [P], ascending from 0, contains the first row of each page. Pages may have different numbers of items.

`log_ratio` float64 [N] is log pi(a_l | s, a_1..a_(l-1)) - log b(a_l | s, a_1..a_(l-1)): the probabilities of the item
at position l given the items before it on the page, under the policy pi and under the logging policy b.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from prefrec_ray.ids import run_lengths

#: Importance weights of pages, from no assumption to the strongest assumption on users.
PageWeights = Literal["sips", "rips", "iips"]
PAGE_WEIGHTS: tuple[PageWeights, ...] = get_args(PageWeights)


def page_log_weights(log_ratio: np.ndarray, first: np.ndarray, weights: PageWeights) -> np.ndarray:
    """Return the log importance weight of the reward at each position, float64 [N].

    With rho_l = exp(log_ratio) at position l of a page of k items, the weight is

    - `sips` (standard): rho_1 ... rho_k. A reward may depend on all items of the page.
    - `rips` (reward interaction): rho_1 ... rho_l. A reward depends on items up to its own (users read from the top).
    - `iips` (independent): rho_l. A reward depends on its own item and position only. The weight is exact for marginal
      probabilities of the item at its position; these equal the probabilities given the items before it if items are
      drawn independently, and nearly equal them if pages are small compared to the catalogue.

    Stronger assumptions have smaller variance. With one item per page all three are equal.

    Reference: McInerney et al. 2020, "Counterfactual Evaluation of Slate Recommendations with Sequential Reward
    Interactions", Eq. 1 (SIPS), 2 (IIPS), 3 and 4 (RIPS).
    """
    if weights == "iips":
        return log_ratio
    length = run_lengths(first, len(log_ratio))
    if weights == "sips":
        return np.repeat(np.add.reduceat(log_ratio, first), length)
    # Not a difference of cumulative sums: its rounding would depend on the pages before.
    running = log_ratio.copy()
    for position in range(1, int(length.max(initial=0))):
        row = first[length > position] + position
        running[row] += running[row - 1]
    return running


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
