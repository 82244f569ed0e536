"""The estimators `fqe` and `dr`: values of networks that are fitted on logged impressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from prefrec_ray.evaluation.estimators.estimator import Inputs
from prefrec_ray.evaluation.estimators.fitted_q import Fitted
from prefrec_ray.evaluation.estimators.importance_weights import WINDOW
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.results.names import LOGGING_POLICY
from prefrec_ray.evaluation.results.scores import Scores
from prefrec_ray.settings import Task


class FittedQ:
    """Fitted-Q evaluation: the mean of Q(s_0, pi(s_0)) over session starts.

    Q(s, a) = E[r + gamma_t Q(s', pi(s'))], with r the level at the end of a session (fqe.py). It extrapolates by the
    network, and underestimates effects that build up over many impressions.

    Settings: `fqe` (networks, updates, gamma). Reference: Le et al. 2019, "Batch Policy Learning under Constraints".
    """

    name: ClassVar[Literal["fqe"]] = "fqe"

    def scores(self, inputs: Inputs, task: Task) -> Scores:
        """Return the values of the task's subjects."""
        fitted, subjects = inputs.fitted[task], inputs.request.subjects_on(task)
        own, logging = [fitted[subject.name] for subject in subjects], fitted[LOGGING_POLICY]
        values, networks = np.stack([one.fqe for one in own], axis=1), _networks(self.name, own, logging)
        about = _about(inputs.request)
        return Scores(task, self.name, subjects, values, logging.fqe, None, logging.counts, about, networks)


class DoublyRobust:
    """Doubly robust: fitted Q plus the weighted residuals of logged impressions (dr.py).

    The weights are products of pi / b if 100 effective sessions remain, else the kernel ratio of NCIS. It is unbiased
    if Q or the weights are right, and has wide intervals otherwise.

    Settings: `fqe`, `ncis`. Reference: Jiang and Li 2016, "Doubly Robust Off-policy Value Evaluation for Reinforcement
    Learning".
    """

    name: ClassVar[Literal["dr"]] = "dr"

    def scores(self, inputs: Inputs, task: Task) -> Scores:
        """Return the values of the task's subjects."""
        request, fitted = inputs.request, inputs.fitted[task]
        subjects, logging = request.subjects_on(task), fitted[LOGGING_POLICY]
        own = [fitted[subject.name] for subject in subjects]
        values, ess = np.stack([one.dr for one in own], axis=1), np.array([one.ess for one in own])
        networks = _networks(self.name, own, logging)
        ncis = request.settings.ncis
        kernel = {"mode": "ratio", "sigma": ncis.sigma, "cap": ncis.cap, "residual_rms": request.clone.residual_rms}
        how = [kernel if one.kernel else {"window": WINDOW} for one in own]
        about = _about(request)
        scores = Scores(task, self.name, subjects, values, logging.dr, ess, logging.counts, about, networks)
        return replace(scores, own_settings=how)


def _about(request: EvaluationRequest) -> dict[str, Any]:
    settings = request.settings
    return {**settings.fqe.model_dump(), "split": settings.split, "seed": settings.seed}


def _networks(estimator: str, own: Sequence[Fitted], logging: Fitted) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over users per network: [K, L] of the subjects and [K, 1] of the logging policy."""
    return np.stack([one.by_network[estimator] for one in own], axis=1), logging.by_network[estimator][:, None]
