"""The Open Bandit Pipeline in an environment of its own, for pages.py: data of its simulator, and its estimates.

The interpreter of the other environment runs this file, which imports obp in its functions, and no other module:

    python obp_side.py TASK.json-text RESULT.npz
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def main(task: dict[str, Any], output: str) -> None:
    """Run the task: one structure of rewards, logged by a softmax and evaluated for another one."""
    from obp.dataset import SyntheticSlateBanditDataset, linear_behavior_policy_logit, logistic_reward_function

    world = SyntheticSlateBanditDataset(
        n_unique_action=task["items"],
        len_list=task["length"],
        dim_context=3,
        reward_structure=task["structure"],
        base_reward_function=logistic_reward_function,
        behavior_policy_function=linear_behavior_policy_logit,
        is_factorizable=task["independent_draws"],
        random_state=task["seed"],
    )
    log = world.obtain_batch_bandit_feedback(n_rounds=task["pages"])
    logits = linear_behavior_policy_logit(log["context"], log["action_context"], random_state=task["seed"] + 1)
    whole, own, cascade = world.obtain_pscore_given_evaluation_policy_logit(log["action"], logits)
    policy = {
        "evaluation_policy_pscore": whole,
        "evaluation_policy_pscore_item_position": own,
        "evaluation_policy_pscore_cascade": cascade,
        "evaluation_policy_action_dist": world.calc_evaluation_policy_action_dist(log["action"], logits),
    }
    q = fit_q(task, log, policy)
    shape = (task["pages"], task["length"], task["items"])
    np.savez(
        output,
        reward=log["reward"],
        logging=given_before(log["pscore_cascade"], task["length"]),
        policy=given_before(cascade, task["length"]),
        logging_of_position=log["pscore_item_position"],
        policy_of_position=own,
        q=np.take_along_axis(q.reshape(shape), log["action"].reshape(*shape[:2], 1), axis=2).ravel(),
        v=(q * policy["evaluation_policy_action_dist"]).reshape(shape).sum(axis=2).ravel(),
        truth=world.calc_ground_truth_policy_value(log["context"], logits),
        **estimates(task, {**log, **policy, "q_hat": q}),
    )


def fit_q(task: dict[str, Any], log: dict[str, Any], policy: dict[str, np.ndarray]) -> np.ndarray:
    """Return Q of every item at every position, float64 [pages * length * items]."""
    from obp.ope import SlateRegressionModel
    from sklearn.linear_model import LinearRegression

    model = SlateRegressionModel(LinearRegression(), len_list=task["length"], n_unique_action=task["items"])
    return model.fit_predict(
        context=log["context"],
        action=log["action"],
        reward=log["reward"],
        pscore_cascade=log["pscore_cascade"],
        evaluation_policy_pscore_cascade=policy["evaluation_policy_pscore_cascade"],
        evaluation_policy_action_dist=policy["evaluation_policy_action_dist"],
    )


def estimates(task: dict[str, Any], inputs: dict[str, Any]) -> dict[str, float]:
    """Return the pipeline's estimates by name."""
    from obp import ope

    length = task["length"]
    estimators = {
        "sips": ope.SlateStandardIPS(length),
        "rips": ope.SlateRewardInteractionIPS(length),
        "iips": ope.SlateIndependentIPS(length),
        "sips, normalised": ope.SelfNormalizedSlateStandardIPS(length),
        "rips, normalised": ope.SelfNormalizedSlateRewardInteractionIPS(length),
        "iips, normalised": ope.SelfNormalizedSlateIndependentIPS(length),
        "cascade-DR": ope.SlateCascadeDoublyRobust(length, task["items"]),
    }
    return {name: estimator.estimate_policy_value(**inputs) for name, estimator in estimators.items()}


def given_before(cascade: np.ndarray, length: int) -> np.ndarray:
    """Return the chance of each item given the items before it on its page, from the chances of all items up to it."""
    upto = cascade.reshape(-1, length)
    return (upto / np.column_stack([np.ones(len(upto)), upto[:, :-1]])).ravel()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
