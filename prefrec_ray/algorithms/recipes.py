"""Recipes: named sets of defaults. Any single setting overrides its recipe."""

from __future__ import annotations

from typing import Any

#: Table 1 of the paper. The learning rates of V and of the reward are not printed there; the critic's stands for both.
PAPER: dict[str, Any] = {
    "gamma": 0.9,
    "expectile": 0.7,
    "tau": 0.001,
    "actor_lr": 5e-6,
    "critic_lr": 5e-5,
    "value_lr": 5e-5,
    "reward_lr": 5e-5,
    "train_batch_size_per_learner": 4096,
    "preference_batch_size": 256,
    "pretrain_epochs": 3,
    "replay_buffer_size": 3_000_000,
    "num_epochs": 5,
    "finetune_reward": True,
    "hidden_sizes": (256, 256, 256),
    "pairing": "any_users",
    "scoring": "sum",
    "teachers": (),
    "reward_input": "state_action",
    "reward_leave_out": (),
    "reward_horizon": 1,
    "standardise_reward": False,
    "action_constraint": "none",
}

#: What differs where a gain must be real (docs/recipe.md): preferences within a user on the mean level of the visits
#: that end in the segment; a reward of the state that an item leads to, blind to which items those were, over the
#: length of a segment after it; a target network and a horizon that back values up over more than a few requests; a
#: choice among real items near the actor's action, which alone would go where no item is.
ROBUST: dict[str, Any] = {
    **PAPER,
    "replay_buffer_size": None,
    "gamma": 0.97,
    "tau": 0.01,
    "actor_lr": 1e-4,
    "critic_lr": 3e-4,
    "value_lr": 3e-4,
    "pairing": "within_user",
    "scoring": "mean",
    "reward_input": "next_state",
    "reward_leave_out": ("items", "tastes"),
    "reward_horizon": 100,
    "standardise_reward": True,
    "finetune_reward": False,
    "action_constraint": "nearest_items",
}

RECIPES: dict[str, dict[str, Any]] = {"paper": PAPER, "robust": ROBUST}
