"""Fitted-Q evaluation and the doubly robust estimator of many policies: a Ray task a policy or placebo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement.levels import task_levels
from prefrec_ray.evaluation.clone import BehaviourClone
from prefrec_ray.evaluation.dr import corrections, residuals, user_means
from prefrec_ray.evaluation.fqe import fit_q
from prefrec_ray.evaluation.ncis import effective_share, request_log_weights
from prefrec_ray.evaluation.sensitivity import Kernels
from prefrec_ray.evaluation.settings import FqeSettings
from prefrec_ray.evaluation.subjects import (
    BEHAVIOUR,
    CONSTANT,
    IMITATION,
    RANDOM_ITEMS,
    Subject,
    served_for,
    subject_of,
)
from prefrec_ray.evaluation.trajectories import Steps, Trajectories, read_trajectories, steps
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.tasks import run_tasks

Progress = Callable[[int, int], None]  # fits done, total


@dataclass(frozen=True)
class Fitted:
    """What one subject scores on one task."""

    fqe: np.ndarray  # float64 [U]
    dr: np.ndarray  # float64 [K, U], a row a kernel
    by_network: dict[str, np.ndarray]  # of fqe and dr (at the first kernel) the mean over users, float64 [networks]
    ess: np.ndarray  # float64 [K], a share of the requests
    counts: dict[str, int]  # users, sessions, users_left_out


@dataclass(frozen=True)
class Question:
    """What every task needs: put once into the object store."""

    policies: Mapping[str, Policy]
    clone: BehaviourClone
    mixture_weight: float
    fqe: FqeSettings
    kernels: Kernels  # of the weights: that of the settings first, then those of a sensitivity analysis
    seed: int

    @cached_property
    def known(self) -> dict[str, Policy]:
        """Policies by name, the clone among them."""
        return {**self.policies, IMITATION: self.clone.policy}


def fit_all(
    dataset: PreparedDataset,
    split: str,
    asked: Mapping[str, Sequence[Subject]],
    policies: Mapping[str, Policy],
    clone: BehaviourClone,
    fqe: FqeSettings,
    kernels: Kernels,
    seed: int,
    progress: Progress,
) -> dict[str, dict[str, Fitted]]:
    """By task and name, what the subjects `asked` of each task score, and behaviour.

    Networks are fitted on training users and asked about users of `split`, on a sample of each that fits into memory
    (`trajectories.ROWS`). A policy's action is the embedding of the item that it would serve: what users get, and
    where the log has data, which an actor at the bounds has not.
    """
    known, held = (read_trajectories.remote(dataset.uri, part, seed) for part in ("train", split))
    question = ray.put(Question(policies, clone, dataset.metadata.mixture_weight, fqe, kernels, seed))
    shared = [known, held, question]
    pairs = [(task, name) for task, lines in asked.items() for name in (BEHAVIOUR, *(line.name for line in lines))]
    scores = run_tasks(
        lambda pair: _fit.remote(*pair, shared), pairs, "fqe", lambda _, done, total: progress(done, total)
    )
    found: dict[str, dict[str, Fitted]] = {task: {} for task in asked}
    for (task, name), score in zip(pairs, scores, strict=True):
        found[task][name] = score
    return found


@ray.remote(num_cpus=1)
def _fit(task: str, name: str, shared: list[Any]) -> Fitted:
    known, held, question = (ray.get(reference) for reference in shared)
    return fit_subject(known, held, question, task, name)


def fit_subject(known: Trajectories, held: Trajectories, question: Question, task: str, name: str) -> Fitted:
    """One subject on one task: Q fitted on the users of `known`, asked about those of `held`; means over networks."""
    rng = np.random.default_rng(question.seed)
    learn, judge = (task_steps(data, task, question.mixture_weight) for data in (known, held))
    usual = _served(name, known, question, rng)[1]
    wished, served = _served(name, held, question, rng)
    log_weight = _unit_log_weights(name, held, wished, judge, question.clone)
    direct, robust = [], []
    for number in range(question.fqe.networks):
        # The same users for all subjects: what they were drawn by cancels in a difference.
        among = learn.redrawn(np.random.default_rng((question.seed, number))) if question.fqe.networks > 1 else None
        net = fit_q(known, learn, usual, question.fqe, question.seed + number, among)
        value, taken = net.mean_level(held.state, served), net.mean_level(held.state[judge.row], held.action[judge.row])
        residual = residuals(judge, taken, value, question.fqe.gamma_session)
        corrected = [corrections(judge, residual, log_weight / sigma**2, cap) for sigma, cap in question.kernels]
        direct.append(user_means(judge, value))
        robust.append(np.stack([direct[-1] + correction for correction, _ in corrected]))
    return Fitted(
        fqe=np.mean(direct, axis=0),
        dr=np.mean(robust, axis=0),
        by_network={"fqe": np.mean(direct, axis=1), "dr": np.stack([one[0].mean() for one in robust])},
        ess=np.array([effective_share(judge.user, weight) for _, weight in corrected]),
        counts={"users": judge.users, "sessions": len(judge.start), "users_left_out": judge.users_left_out},
    )


def task_steps(data: Trajectories, task: str, mixture_weight: float) -> Steps:
    """The steps of a task. Raises `UserError` where no session has a level and another session after it."""
    return steps(data, task_levels(task, data.depth_level, data.frequency_level, mixture_weight))


def _served(
    name: str, data: Trajectories, question: Question, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Actions [N, A] at every request: as the subject wishes, and of the items served for them."""
    if name == BEHAVIOUR:
        return data.action, data.action
    policy = question.known.get(subject_of(name), question.clone.policy)
    items = policy.items
    if name == RANDOM_ITEMS:
        drawn = items.embeddings[rng.integers(0, len(items), len(data.state))]
        return drawn, drawn
    if name == CONSTANT:
        mean = question.clone.mean_action
        item = items.nearest(mean[None], 1, policy.serving)[0, 0]
        return np.broadcast_to(mean, data.action.shape), np.broadcast_to(items.embeddings[item], data.action.shape)
    wished = policy.act(data.state)
    served = served_for(policy, wished)
    if name != subject_of(name):
        order = rng.permutation(len(wished))
        wished, served = wished[order], served[order]
    return wished, served


def _unit_log_weights(
    name: str, data: Trajectories, wished: np.ndarray, known: Steps, clone: BehaviourClone
) -> np.ndarray:
    """The log weights [n] of the steps at a kernel width of one residual rms: at `sigma` they are these / sigma^2."""
    if name == BEHAVIOUR:
        return np.zeros(len(known.row))
    usual = clone.policy.act(data.state[known.row])
    return request_log_weights(data.action[known.row], wished[known.row], usual, clone.residual_rms, "ratio")
