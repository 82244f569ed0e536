"""Evaluation by NCIS: `python -m benchmarks evaluation DATASET`.

The product's `evaluate` scores a policy, behavior cloning and all controls, with intervals over users and a look at
what is served. The bare one reads the same files one after another, takes the policy's and the clone's actions in whole
batches, and computes Eq. 12 for only the policy in plain NumPy. Both must come to the same value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import Comparison, compared, interleave
from benchmarks.speed.training import PAPER_SIZES, iql_config
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.behavior import BehaviorClone, fit_clone
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.settings import EvaluateSettings, NcisSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runs.train import policy_now
from prefrec_ray.runtime import start_ray

SETTINGS = NcisSettings()  # ratio, geometric, capped
SPLIT = "train"  # training users are the most
_KEYS = ["user_id", "session_index"]


def bare_value(dataset: PreparedDataset, split: str, policy: Policy, clone: BehaviorClone) -> float:
    """NCIS of the policy's depth level: the mean over users of their weighted mean over sessions."""
    values = []
    variance = (SETTINGS.sigma * clone.residual_rms) ** 2
    for file in dataset.files("requests", split):
        requests = dataset.read(file, columns=[*_KEYS, "state", "action"])
        states, logged = tensor(requests["state"]), tensor(requests["action"])
        to_policy = np.square(logged - policy.act(states)).sum(1)
        to_clone = np.square(logged - clone.policy.act(states)).sum(1)
        ratios = pa.table({**{k: requests[k] for k in _KEYS}, "log": (to_clone - to_policy) / (2 * variance)})
        weights = ratios.group_by(_KEYS).aggregate([("log", "mean")])
        levels = dataset.read(dataset.path("sessions", file.rsplit("/", 1)[-1]), columns=[*_KEYS, "level_depth"])
        sessions = weights.join(levels, _KEYS).sort_by([(key, "ascending") for key in _KEYS])
        _, user = np.unique(sessions["user_id"].to_numpy(), return_inverse=True)
        weight = np.minimum(np.exp(sessions["log_mean"].to_numpy()), SETTINGS.cap)
        level = sessions["level_depth"].to_numpy()
        values.append(np.bincount(user, weight * level) / np.bincount(user, weight))
    return float(np.concatenate(values).mean())


def main(dataset: Path, repetitions: int = 3) -> dict[str, Any]:
    """Prints requests a second, for a policy of IQL."""
    start_ray()
    uri, data = str(dataset), PreparedDataset.open(str(dataset))
    algorithm = iql_config(uri, 1, PAPER_SIZES).build_algo()
    algorithm.train()
    policy = policy_now(algorithm)
    algorithm.stop()
    clone = fit_clone(data, seed=0)
    settings = EvaluateSettings(ncis=SETTINGS, estimators=("ncis",)).model_copy(update={"split": SPLIT})
    values: dict[str, float] = {}

    def product() -> None:
        evaluation = evaluate(EvaluationRequest(data, {"policy": policy}, ["depth"], clone, settings))
        values["product"] = next(record.value for record in evaluation.records if record.subject == "policy")

    def bare() -> None:
        values["bare"] = bare_value(data, SPLIT, policy, clone)

    requests = data.metadata.counts[SPLIT]["requests"]
    rates = interleave({"product": product, "bare": bare}, requests, repetitions)
    if not np.isclose(values["product"], values["bare"], rtol=1e-4):
        raise UserError(f"evaluation: the two do not agree ({values})")
    return compared(Comparison("evaluation by NCIS", "requests/s", rates, [("product", "bare")]), values=values)
