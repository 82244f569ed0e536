"""Weights of sessions, from importance weights of impressions or pages: products over windows, and product limits."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from prefrec_ray.ids import last_rows, places_in_runs, run_lengths

#: Importance weights of pages, from no assumption to the strongest assumption on users.
PageWeights = Literal["sips", "rips", "iips"]
PAGE_WEIGHTS: tuple[PageWeights, ...] = get_args(PageWeights)
#: Number of consecutive impressions (or pages) whose weights are multiplied. One impression ignores the previous item.
#: Three and four leave half as many effective sessions and no better means.
WINDOW = 2
#: Smallest weight of the remaining sessions, against rounding to 0.
_TINY = np.finfo(np.float64).tiny


def page_log_weights(log_ratio: np.ndarray, first: np.ndarray, weights: PageWeights) -> np.ndarray:
    """Return the log importance weight of the reward at each position of a page, float64 [N].

    `log_ratio` float64 [N] is log pi(a_l | s, a_1..a_(l-1)) - log b(a_l | s, a_1..a_(l-1)) of the item at position l,
    under the policy pi and the logging policy b. The impressions of a page are adjacent, in order of position; `first`
    int64 [P], ascending from 0, contains the first row of each page. Pages may have different numbers of items.

    With rho_l = exp(log_ratio) at position l of a page of k items, the weight is

    - `sips` (standard): rho_1 ... rho_k. A reward may depend on all items of the page.
    - `rips` (reward interaction): rho_1 ... rho_l. A reward depends on items up to its own (users read from the top).
    - `iips` (independent): rho_l. A reward depends on its own item and position only. The weight is exact if items are
      drawn independently, and nearly exact if pages are small compared to the catalogue.

    Stronger assumptions have smaller variance.

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


def request_weights(log_weight: np.ndarray, first: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Return the log weight of each impression, [N]: the number of the policy's impressions that it represents.

    `log_weight` [N] is log pi / b; sessions begin at rows `first` [M]. At each position, the sessions that reach it are
    weighted by the product of their last `window` weights. By these weights a share of the policy's sessions ends
    there, and the others reach the next position (the product-limit estimator of Kaplan and Meier 1958 for weighted
    sessions). A session is therefore only compared with sessions of the same length. Products over whole sessions would
    be dominated by short sessions. The weights are exact if earlier items of a session have no further effect, and if
    the sessions at each position cover the policy's actions.
    """
    return _coming(_products(log_weight, first, window), first)


def page_request_weights(
    log_weight: np.ndarray, first: np.ndarray, pages: np.ndarray, weights: PageWeights
) -> np.ndarray:
    """Return `request_weights` with pages in the place of impressions, [N]; the items of a page have equal weights.

    `log_weight` [N] is log pi / b given the items before on the page; pages begin at rows `pages` [P]. A page is
    weighted by `page_log_weights` of its last item, times the ratios of all items of the session's page before, on
    which the state depends. With one item per page the result is `request_weights`.
    """
    size, whole = run_lengths(pages, len(log_weight)), np.add.reduceat(log_weight, pages)
    own, first_pages = ends(page_log_weights(log_weight, pages, weights), pages), np.searchsorted(pages, first)
    last_pages = _products(whole, first_pages, WINDOW) + (own - whole)
    return np.repeat(_coming(last_pages, first_pages), size)


def _products(log_weight: np.ndarray, first: np.ndarray, window: int) -> np.ndarray:
    """Return the log product of the last `window` weights of the session at each step, [N]."""
    row = np.arange(len(log_weight))
    position = places_in_runs(first, len(row))
    running = np.concatenate([[0.0], np.cumsum(log_weight)])
    return running[1:] - running[row - np.minimum(position, window - 1)]


def _coming(recent: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the log weights [N] of `request_weights` from the products `recent` [N] of the last weights (logs)."""
    position = places_in_runs(first, len(recent))
    largest = np.full(position.max() + 1, -np.inf)
    np.maximum.at(largest, position, recent)
    recent = recent - largest[position]
    weight = np.exp(recent)
    there, last = np.bincount(position, weight), last_rows(first, len(recent))
    ending = np.bincount(position[last], weight[last], len(there))
    coming = np.cumprod(np.append(float(len(first)), 1 - ending / there)[:-1])
    return np.log(np.maximum(coming, _TINY) / there)[position] + recent


def ends(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the value at the last impression of each session (or page), [M], from values [N]."""
    return values[last_rows(first, len(values))]


def effective_pages(log_weight: np.ndarray, pages: np.ndarray) -> dict[str, float]:
    """Return the effective number of pages under `page_log_weights`, by name; empty if each page has one item."""
    if len(pages) == len(log_weight):
        return {}
    return {name: kish(page_log_weights(log_weight, pages, name)) * len(pages) for name in PAGE_WEIGHTS}


def kish(log_weight: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2 as a share of the number of weights, from their logarithms."""
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / np.square(weight).sum() / len(weight))
