"""The estimators `fqe` and `dr`: fitted-Q evaluation and its doubly robust correction, one Ray task per subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from prefrec_ray.engagement import task_levels
from prefrec_ray.evaluation.estimators.fqe import Steps, fit_q, steps
from prefrec_ray.evaluation.estimators.importance_weights import ItemWeights, Weighed
from prefrec_ray.evaluation.estimators.ncis import (
    ScoredSplit,
    effective_share,
    normalised_weights,
    request_log_weights,
)
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, EvaluationWork
from prefrec_ray.evaluation.estimators.session_weights import WINDOW, kish, page_log_weights, page_request_weights
from prefrec_ray.evaluation.results.names import CONSTANT, LOGGING_POLICY, RANDOM_ITEMS, subject_of
from prefrec_ray.evaluation.results.scores import Findings, Scores
from prefrec_ray.ids import first_rows, repetition_seed
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import Task
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.reading import read_histories

#: Actions [N, A], and the embeddings of the items served for them.
Acts = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Fitted:
    """Scores of U users under one subject on one task, by each of K networks."""

    fqe: np.ndarray  # float64 [K, U]
    dr: np.ndarray  # float64 [K, U]
    ess: float  # of dr, as a share of the impressions
    counts: dict[str, int]  # users, sessions, users_left_out
    kernel: bool  # dr has weights from the kernel, not from the subject's own probabilities


class FittedQ:
    """The estimators `fqe` and `dr`.

    `fqe` is the mean of Q(s_0, pi(s_0)) over session starts. It extrapolates by the network, and underestimates effects
    that build up over many impressions. Reference: Le et al. 2019, "Batch Policy Learning under Constraints".

    `dr` adds the weighted residuals of logged impressions (`corrections`). The weights are products of pi / b if 100
    effective sessions remain, else the kernel ratio of NCIS. It is unbiased if Q or the weights are right, and has wide
    intervals otherwise. Reference: Jiang and Li 2016, "Doubly Robust Off-policy Value Evaluation for Reinforcement
    Learning".
    """

    def __init__(self, work: EvaluationWork, weights: ItemWeights) -> None:
        self.work, self.weights = work, weights
        self.names = work.chosen("fqe", "dr")

    def start(self) -> None:
        """Networks are fitted after the pass over the split, by all processors."""

    def finish(self, split: ScoredSplit) -> Findings:
        fitted = self._fit()
        return Findings([self._scores(task, name, fitted[task]) for name in self.names for task in fitted])

    def _fit(self) -> dict[Task, dict[str, Fitted]]:
        """Return the scores of all subjects and of the logging policy, by task and name.

        Networks are fitted on training users and evaluated on users of the split, on samples that fit into memory
        (`histories.ROWS`). A policy's action is the embedding of the item that it would serve, so that actions are
        within the range of the log.
        """
        request = self.work.request
        training = read_histories.remote(request.dataset.uri, "train", request.settings.seed)
        shared = [training, self.work.held, self.work.stored]
        weighed = self.weights.weigh_again() if "dr" in self.names and self.weights.subjects else {}
        pairs = [
            (task, name)
            for task in request.tasks
            for name in (LOGGING_POLICY, *(subject.name for subject in request.subjects_on(task)))
        ]
        acts: dict[str, ray.ObjectRef] = {}

        def submit(pair: tuple[str, str]) -> ray.ObjectRef:
            # Shared with the shuffled control, which comes next, because drawing items costs more than the fit. Then
            # freed.
            if (own := subject_of(pair[1])) in request.actors and own not in acts:
                acts.clear()
                acts[own] = _act.remote(own, shared)
            return _fit.remote(*pair, shared, weighed.get(pair[1]), acts.get(own))

        scores = run_tasks(submit, pairs, "fit Q: policies and controls", self.work.progress)
        fitted: dict[Task, dict[str, Fitted]] = {task: {} for task in request.tasks}
        for (task, name), score in zip(pairs, scores, strict=True):
            fitted[task][name] = score
        return fitted

    def _scores(self, task: Task, estimator: str, fitted: Mapping[str, Fitted]) -> Scores:
        request, subjects = self.work.request, self.work.request.subjects_on(task)
        settings, ncis = request.settings, request.settings.ncis
        parts, logging = [fitted[subject.name] for subject in subjects], fitted[LOGGING_POLICY]
        values = np.stack([getattr(one, estimator) for one in parts], axis=2)
        logging_values = getattr(logging, estimator)
        ess, own = None, []
        if estimator == "dr":
            ess = np.array([one.ess for one in parts])
            kernel = {"mode": "ratio", "sigma": ncis.sigma, "cap": ncis.cap, "residual_rms": request.clone.residual_rms}
            own = [{"settings": kernel if one.kernel else {"window": WINDOW}} for one in parts]
        return Scores(
            task=task,
            estimator=estimator,
            subjects=subjects,
            values=values.mean(axis=0),
            logging=logging_values.mean(axis=0),
            ess=ess,
            counts=logging.counts,
            settings={**settings.fqe.model_dump(), "split": settings.split, "seed": settings.seed},
            networks=(values.mean(axis=1), logging_values.mean(axis=1, keepdims=True)),
            own=own,
        )


@ray.remote(num_cpus=1)
def _act(name: str, shared: list[Any]) -> list[Acts]:
    training, held, request = (ray.get(reference) for reference in shared)
    return [_acts(name, data, request) for data in (training, held)]


@ray.remote(num_cpus=1)
def _fit(task: str, name: str, shared: list[Any], weighed: Weighed | None, acts: Sequence[Acts] | None) -> Fitted:
    training, held, request = (ray.get(reference) for reference in shared)
    return fit_subject(training, held, request, task, name, weighed, acts)


def fit_subject(
    training: Histories,
    held: Histories,
    request: EvaluationRequest,
    task: str,
    name: str,
    weighed: Weighed | None = None,
    acts: Sequence[Acts] | None = None,
) -> Fitted:
    """Score one subject on one task: Q fitted on the users of `training`, evaluated on the users of `held`.

    Scores are means over networks. `weighed`: weights of the impressions of `held` by the subject's probabilities.
    Without it, or with too few effective sessions, the kernel gives the weights. `acts`: the subject's actions at the
    impressions of both, if known.
    """
    seed, settings = request.settings.seed, request.settings.fqe
    rng = np.random.default_rng(seed)
    fit_on, scored = (task_steps(data, task, request.dataset.metadata.mixture_weight) for data in (training, held))
    known = (None, None) if acts is None else acts
    training_served = _actions(name, training, request, rng, known[0])[1]
    actions, served = _actions(name, held, request, rng, known[1])
    kernel = weighed is None or not weighed.enough("sips")
    pages = first_rows(held.pages.of_row[scored.row])
    share = 1 / held.pages.sizes[held.pages.of_row[scored.row]]
    if weighed is None or kernel:
        weight = _by_kernel(name, held, actions, scored, pages, request)
        ess = float(effective_share(scored.user, weight))
    else:
        starts = np.searchsorted(scored.row, scored.start)
        own = page_request_weights(weighed.log_weight[scored.row], starts, pages, "sips")
        weight, ess = np.exp(own), kish(own)
    direct, robust = [], []
    for number in range(settings.networks):
        # The same users for all subjects, so that the effect of their choice cancels in a difference.
        among = fit_on.redrawn(np.random.default_rng((seed, number))) if settings.networks > 1 else None
        net = fit_q(training, fit_on, training_served, settings, repetition_seed(seed, number), among)
        value = net.mean_level(held.state, served)
        taken = net.mean_level(held.state[scored.row], held.action[scored.row])
        residual = residuals(scored, taken, value, settings.gamma_session)
        direct.append(user_means(scored, value))
        robust.append(direct[-1] + corrections(scored, share * residual, weight))
    return Fitted(
        fqe=np.stack(direct),
        dr=np.stack(robust),
        ess=ess,
        counts={"users": scored.users, "sessions": len(scored.start), "users_left_out": scored.users_left_out},
        kernel=kernel,
    )


def task_steps(data: Histories, task: str, mixture_weight: float) -> Steps:
    """Return the steps of a task. Raises `UserError` if no session has a level and a following session."""
    return steps(data, task_levels(task, data.depth_level, data.frequency_level, mixture_weight))


def _acts(name: str, data: Histories, request: EvaluationRequest) -> Acts:
    """Return a policy's actions at every impression, and the embeddings of the items served for them."""
    policy = request.actors[name]
    actions = policy.act(data.state, recent=data.recent(policy.items.kinds) if policy.penalises_repetition else None)
    return actions, policy.served_for(actions)


def _actions(
    name: str, data: Histories, request: EvaluationRequest, rng: np.random.Generator, acts: Acts | None
) -> Acts:
    """Return a subject's actions at every impression, from its policy's actions if known."""
    if name == LOGGING_POLICY:
        return data.action, data.action
    clone = request.clone
    policy = request.actors.get(subject_of(name), clone.policy)
    items = policy.items
    if name == RANDOM_ITEMS:
        drawn = items.embeddings[rng.integers(0, len(items), len(data.state))]
        return drawn, drawn
    if name == CONSTANT:
        item = items.nearest(clone.mean_action[None], 1)[0, 0]
        constant, served = (np.broadcast_to(a, data.action.shape) for a in (clone.mean_action, items.embeddings[item]))
        return constant, served
    actions, served = acts or _acts(subject_of(name), data, request)
    if name != subject_of(name):
        order = rng.permutation(len(actions))
        actions, served = actions[order], served[order]
    return actions, served


def _by_kernel(
    name: str, data: Histories, actions: np.ndarray, scored: Steps, pages: np.ndarray, request: EvaluationRequest
) -> np.ndarray:
    """Return the weights [n] of the steps by the kernel of the evaluation. Their mean is 1 for each user.

    The items of a page, which begins at one of the steps `pages` [P], have the product of their ratios.
    """
    if name == LOGGING_POLICY:
        return np.ones(len(scored.row))
    clone, ncis = request.clone, request.settings.ncis
    logged, cloned = data.action[scored.row], clone.policy.act(data.state[scored.row])
    log_weights = request_log_weights(logged, actions[scored.row], cloned, ncis.sigma * clone.residual_rms, "ratio")
    return normalised_weights(scored.user, page_log_weights(log_weights, pages, "sips"), ncis.cap)


def residuals(known: Steps, taken: np.ndarray, value: np.ndarray, gamma: float) -> np.ndarray:
    """Return r + gamma_t V(s') - Q(s, a) of the steps, float64 [n], in levels.

    `taken` [n] is Q at the logged actions and `value` [N] V at every impression, both as mean levels ((1 - gamma) Q).
    """
    discount = np.where(known.ends, gamma, 1.0)
    return known.reward + (discount * value[known.following] - taken) / (1 - gamma)


def user_means(known: Steps, value: np.ndarray) -> np.ndarray:
    """Return the mean of `value` [N] over each user's session starts, float64 [U]: the direct estimate of fitted Q."""
    return np.bincount(known.start_user, value[known.start]) / np.bincount(known.start_user)


def corrections(known: Steps, residual: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the doubly robust correction of each user's value, float64 [U], from residuals [n] and weights [n].

    On a page, weights are those of the whole page, and residuals are divided by its number of items, as the Q of a page
    is the mean Q of its items (mdp/pages.py).

    With D_t the discount up to impression t, V(s_0) is exactly V'(s_0) + E_pi[sum_t D_t (r + gamma_t V'(s') - Q'(s,
    a))] for any Q' (Jiang and Li 2016; Kakade and Langford 2002). As a mean level, with D constant within a session,
    the sum becomes the mean over sessions of the summed residuals of each session. Impressions come from the logging
    policy. Their weights are the density ratio of the action (`normalised_weights` of the kernel ratio), or of
    state and action (`page_request_weights`). The density ratio of the state at the start of a session is taken as
    1: the correction stays biased if the policy leads users to states that are rare in the log.
    """
    return np.bincount(known.user, weight * residual) / np.bincount(known.start_user)
