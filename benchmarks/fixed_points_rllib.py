"""RLlib's own IQL for fixed_points.py: its stock learner and module, fed with rows of the same arrays.

Its offline data path is left out: what is compared is where training ends. The module is RLlib's too, so that networks
differ from ours and d3rlpy's in shape (its Q encodes state and action apart), and its policy is squashed by tanh.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

_MODULE = "default_policy"


def train_rllib(arrays: dict[str, np.ndarray], settings: dict[str, Any], seed: int, updates: int) -> dict[str, Any]:
    """Policy on held-out states, Q (mean of the twins) on them and on the logged rows."""
    torch.manual_seed(seed)
    learner = make_learner(arrays, settings, seed)
    generator = np.random.default_rng(seed)
    order, size = np.empty(0, dtype=np.int64), settings["batch_size"]
    for update in range(updates):
        if len(order) < size:
            order = generator.permutation(len(arrays["obs"]))
        rows, order = order[:size], order[size:]
        learner.update(batch=batch(arrays, rows), timesteps={"num_env_steps_sampled_lifetime": (update + 1) * size})
    module = learner.module[_MODULE]

    def q(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        given = {"obs": torch.tensor(states), "actions": torch.tensor(actions)}
        twins = ((module.qf_encoder, module.qf), (module.qf_twin_encoder, module.qf_twin))
        found = [module._qf_forward_train_helper(given, encoder=encoder, head=head) for encoder, head in twins]
        return torch.stack(found).mean(0).numpy()

    with torch.no_grad():
        logits = module.forward_inference({"obs": torch.tensor(arrays["held_out"])})["action_dist_inputs"]
        distribution = module.get_inference_action_dist_cls().from_logits(logits)
        policy = distribution.to_deterministic().sample().numpy()
        return {
            "policy": policy,
            "q_policy": q(arrays["held_out"], policy),
            "q_logged": q(arrays["obs"], arrays["action"]),
        }


def make_learner(arrays: dict[str, np.ndarray], settings: dict[str, Any], seed: int) -> Any:
    """RLlib's learner with the shared settings."""
    obs = gym.spaces.Box(-np.inf, np.inf, arrays["obs"].shape[1:], np.float32)
    action = gym.spaces.Box(-1.0, 1.0, arrays["action"].shape[1:], np.float32)
    first, *rest = settings["hidden_sizes"]
    model = DefaultModelConfig(
        fcnet_hiddens=[first], fcnet_activation="relu", head_fcnet_hiddens=rest, head_fcnet_activation="relu"
    )
    config = (
        IQLConfig()
        .environment(observation_space=obs, action_space=action)
        .rl_module(model_config=model)
        .debugging(seed=seed)
        .training(
            beta=1.0,
            twin_q=True,
            expectile=settings["expectile"],
            actor_lr=settings["actor_lr"],
            critic_lr=settings["critic_lr"],
            value_lr=settings["critic_lr"],
            tau=settings["tau"],
            gamma=settings["gamma"],
            target_network_update_freq=0,  # every update
        )
    )
    learner = config.build_learner(env=None, spaces={_MODULE: (obs, action)})
    learner.build()
    # The config's own check refuses a temperature above 1 (the paper's is 3), so it is set where it is used.
    learner.temperature[_MODULE] = torch.tensor([settings["temperature"]])
    return learner


def batch(arrays: dict[str, np.ndarray], rows: np.ndarray) -> MultiAgentBatch:
    """Rows of the arrays; histories go on, so that nothing is terminal."""
    columns = {
        "obs": arrays["obs"][rows],
        "actions": arrays["action"][rows],
        "new_obs": arrays["next_obs"][rows],
        "rewards": arrays["reward"][rows].astype(np.float32),
        "terminateds": np.zeros(len(rows), dtype=bool),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in columns.items()}
    return MultiAgentBatch({_MODULE: SampleBatch(tensors)}, env_steps=len(rows))
