"""The estimators by importance weights over items, for policies with known item probabilities.

A weight is pi(i | s) / b(i | s) of a shown item i, with b the logging policy. b is the log's propensity, or a model of
the logging policy that is fitted to training users (behavior.py). On a page both are conditional on the items before i.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.behavior import BehaviorModel, fit_behavior
from prefrec_ray.evaluation.estimators.ncis import LoggedSessions, ScoredSplit, session_scores
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, EvaluationWork
from prefrec_ray.evaluation.estimators.session_weights import (
    PAGE_WEIGHTS,
    WINDOW,
    effective_pages,
    ends,
    kish,
    page_request_weights,
    request_weights,
)
from prefrec_ray.evaluation.results.names import RANDOM_ITEMS
from prefrec_ray.evaluation.results.records import ENOUGH
from prefrec_ray.evaluation.results.scores import Findings, Scores
from prefrec_ray.ids import places_in_runs, run_lengths
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import Task
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.reading import histories_of, read_histories

#: Estimators by importance weights over items: of the last impressions, or of the last pages.
ITEM_WEIGHTS = ("weights", *PAGE_WEIGHTS)
#: Approximate number of weighted impressions, of whole users. Every item of the catalogue is scored for each.
ROWS = 20_000
#: The same if only the effective sample size next to `model` is needed.
SHARE_ROWS = 5_000
#: Approximate number of impressions of training users to which the model of the logging policy is fitted.
TRAINING_ROWS = 100_000
_CHUNK = 512


@dataclass(frozen=True)
class Logged:
    """Impressions of the split, and log b(i | s) of the shown items, float64 [N].

    `model`: fitted model of b if the log does not contain all propensities.
    """

    data: Histories
    log_b: np.ndarray
    model: BehaviorModel | None = None


@dataclass(frozen=True)
class Weighed:
    """Importance weights of one subject.

    `log_weight`: log pi / b of each impression, float64 [N]. `sessions`: sessions with their log weights [M, 4]: of a
    session's last impression, by the estimators `ITEM_WEIGHTS`. `ess`: effective share (`kish`) of the sessions by
    estimator. `pages`: effective number of pages by estimator; empty if each page has one item. `ess_users`: effective
    share of the users, with the product of all weights of a user. `about`: source of b, and the mean weight of an
    impression, which is 1 for a correct b.
    """

    log_weight: np.ndarray
    sessions: LoggedSessions
    ess: Mapping[str, float]
    pages: dict[str, float]
    ess_users: float
    about: dict[str, Any]

    def enough(self, estimator: str) -> bool:
        """Return True if there are enough effective sessions for an estimate."""
        return self.ess[estimator] * len(self.sessions.user) >= ENOUGH


class ItemWeights:
    """The estimators `weights`, `sips`, `rips` and `iips`: weighted means of the levels of logged sessions.

    The value of a user is the weighted mean of the levels of the sessions. The weight of a session is the number of the
    policy's sessions that it represents, from products of pi(i | s) / b(i | s) over `WINDOW` consecutive impressions
    (`weights`), or over the page before and the items of the last page that count (`page_log_weights`).

    Reference: product limit of Kaplan and Meier 1958 for weighted sessions.
    """

    def __init__(self, work: EvaluationWork) -> None:
        self.work, self.names = work, work.chosen(*ITEM_WEIGHTS)
        #: Reference to `Logged`; None if no policy can be weighted, or no estimator has started it.
        self.logged: ray.ObjectRef | None = None

    @cached_property
    def subjects(self) -> list[str]:
        """Return the subjects that can draw every item: policies that sample from all items, and random items."""
        policies = [name for name, policy in self.work.request.policies.items() if policy.draws_from_all]
        return policies and [*policies, RANDOM_ITEMS]

    def start(self) -> None:
        """Start computing `Logged` on users of the split."""
        if self.logged is None and self.subjects:
            uri, settings = self.work.request.dataset.uri, self.work.request.settings
            rows = ROWS if self.work.chosen(*ITEM_WEIGHTS, "dr") else SHARE_ROWS
            held = read_histories.remote(uri, settings.split, settings.seed, rows)
            self.logged = logged_chances.remote(uri, settings.seed, held)

    @cached_property
    def weighed(self) -> dict[str, Weighed]:
        """Return the weights of all `subjects` by name; empty if not started."""
        if self.logged is None:
            return {}
        shared, stage = [self.work.stored, self.logged], "weigh impressions: policies"
        weighed = run_tasks(lambda name: _weigh.remote(name, shared), self.subjects, stage, self.work.progress)
        return dict(zip(self.subjects, weighed, strict=True))

    def weigh_again(self) -> dict[str, ray.ObjectRef]:
        """Start to weigh the impressions of `work.held`; return references to `Weighed` by name.

        The model of the logging policy is used again if it was started.
        """
        uri, seed = self.work.request.dataset.uri, self.work.request.settings.seed
        shared = [self.work.stored, logged_chances.remote(uri, seed, self.work.held, self.logged)]
        return {name: _weigh.remote(name, shared) for name in self.subjects}

    def finish(self, split: ScoredSplit) -> Findings:
        """Return the scores of tasks with a policy that has enough effective sessions."""
        scores = [self._scores(task, name) for name in self.names for task in self.work.request.tasks]
        return Findings([one for one in scores if one is not None])

    def _scores(self, task: Task, estimator: str) -> Scores | None:
        """Return the scores of the subjects with enough effective sessions; None if no policy has enough."""
        request, weighed = self.work.request, self.weighed
        subjects = [s for s in request.subjects_on(task) if s.name in weighed and weighed[s.name].enough(estimator)]
        if not any(subject.role == "policy" for subject in subjects):
            return None
        own = [weighed[subject.name] for subject in subjects]
        column = ITEM_WEIGHTS.index(estimator)
        sessions = replace(own[0].sessions, log_rho=np.column_stack([one.sessions.log_rho[:, column] for one in own]))
        about = [{"settings": one.about} for one in own]
        return session_scores(request, task, estimator, sessions, subjects, {"window": WINDOW}, own=about)


@ray.remote(num_cpus=1)
def logged_chances(uri: str, seed: int, held: Histories, before: Logged | None = None) -> Logged:
    """Return the probabilities of the items of `held`, by a fitted model if the log lacks propensities.

    The model of `before`, of the same seed, is used again.
    """
    known, log_b = np.isfinite(held.propensity), np.log(held.propensity)
    if known.all():
        return Logged(held, log_b)
    model, dataset = None if before is None else before.model, PreparedDataset.open(uri)
    if model is None:
        model = fit_behavior(histories_of(dataset, "train", seed, TRAINING_ROWS), dataset.items(), seed)
    for part in _parts(len(held.row)):
        fitted = model.log_probabilities(
            held.state[part], held.row[part], shown_before(held, part, dataset.metadata.rest_ms)
        )
        log_b[part] = np.where(known[part], log_b[part], fitted)
    return Logged(held, log_b, model)


@ray.remote(num_cpus=1)
def _weigh(name: str, shared: list[Any]) -> Weighed:
    request, logged = (ray.get(reference) for reference in shared)
    return weigh(name, request, logged)


def weigh(name: str, request: EvaluationRequest, logged: Logged) -> Weighed:
    """Return the weights of one subject."""
    data = logged.data
    policy = None if name == RANDOM_ITEMS else request.policies[name]
    items = len(request.clone.policy.items)  # of the data set, without reading it again
    rest_ms = request.dataset.metadata.rest_ms
    if policy is not None:
        rest_ms = policy.serving.rest_ms(rest_ms)
    log_weight = log_chances(policy, data, items, rest_ms) - logged.log_b
    pages = data.pages.first
    by_page = [page_request_weights(log_weight, data.first, pages, weights) for weights in PAGE_WEIGHTS]
    log_rho = [ends(own, data.first) for own in (request_weights(log_weight, data.first), *by_page)]
    sessions = LoggedSessions(
        user=data.user[data.first],
        depth_level=data.depth_level,
        frequency_level=data.frequency_level,
        depth=run_lengths(np.searchsorted(pages, data.first), len(pages)).astype(np.float64),
        log_rho=np.column_stack(log_rho),
    )
    products = np.add.reduceat(log_weight, data.starts)
    source = "logged" if logged.model is None else "fitted"
    about = {"propensities": source, "mean_weight": float(np.exp(log_weight).mean())}
    ess = dict(zip(ITEM_WEIGHTS, map(kish, log_rho), strict=True))
    return Weighed(log_weight, sessions, ess, effective_pages(log_weight, pages), kish(products), about)


def log_chances(policy: Policy | None, data: Histories, items: int, rest_ms: float) -> np.ndarray:
    """Return log pi(i | s) of the shown items, float64 [N]. Without a policy, pi is uniform over `items` items.

    Items that rest, or precede the shown item on its page, are excluded (`shown_before`). Pins have pi = 1.
    """
    log_pi, rows = np.empty(len(data.row)), np.arange(len(data.row))
    for part in _parts(len(data.row)):
        out = shown_before(data, part, rest_ms)
        if policy is None:
            log_pi[part] = -np.log(items - (0 if out is None else out.counts()))
        else:
            page = before_on_page(data, rows[part])
            recent = _recent(data, rows[part], page, policy.items.kinds) if policy.penalises_repetition else None
            chances = policy.probabilities(data.state[part], data.row[part], out, recent, page)
            log_pi[part] = np.log(np.maximum(chances, np.finfo(np.float64).tiny))  # 0 only from rounding
    return log_pi if data.pins is None else np.where(data.pins, 0.0, log_pi)


def _parts(rows: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, rows, _CHUNK)]


def before_on_page(data: Histories, impressions: np.ndarray) -> np.ndarray:
    """Return the items drawn before each of the `impressions` [n] on its page, rows int64 [n, j]; -1: none or a pin."""
    position = impressions - data.pages.first[data.pages.of_row[impressions]]
    earlier = impressions[:, None] - np.arange(position.max(initial=0), 0, -1)
    on_page = earlier >= (impressions - position)[:, None]
    if data.pins is not None:  # placed among the items after the draw
        on_page &= ~data.pins[earlier]
    return np.where(on_page, data.row[np.maximum(earlier, 0)], -1)


def _recent(data: Histories, impressions: np.ndarray, page: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return the kinds of the impressions before the page of each of `impressions` [n], then of the items of `page`."""
    recent = data.recent(kinds, data.pages.first[data.pages.of_row[impressions]])
    for item in page.T:
        after = np.concatenate([kinds[item][:, None], recent[:, :-1]], axis=1)
        recent = np.where((item >= 0)[:, None, None], after, recent)
    return recent


def shown_before(data: Histories, part: slice, rest_ms: float) -> ExcludedItems | None:
    """Return the user's items that rest at each impression of `part`, the items before it on its page, and its pins.

    The shown item is not excluded. Returns None without rest and pages.
    """
    if not rest_ms and len(data.pages.first) == len(data.row):
        return None
    row, page = np.arange(len(data.row))[part], data.pages.first[data.pages.of_row[part]]
    start = data.starts[data.user[part]] if rest_ms else page
    last = row if data.pins is None else page + data.pages.sizes[data.pages.of_row[part]]
    count = last - start
    state = np.repeat(np.arange(len(count)), count)
    before = places_in_runs(np.cumsum(count) - count, int(count.sum()))
    earlier = start[state] + before
    item, time, items = data.row[earlier], data.timestamp[earlier], int(data.row.max()) + 1
    out = data.timestamp[part][state] - time < rest_ms
    if data.examined is not None:
        out &= data.examined[earlier]
    out |= earlier >= page[state]
    if data.pins is not None:
        out &= (earlier < row[state]) | data.pins[earlier]
    rests = out & (item != data.row[part][state])
    pairs = np.unique(state[rests] * items + item[rests])
    return ExcludedItems(len(count), pairs // items, pairs % items)
