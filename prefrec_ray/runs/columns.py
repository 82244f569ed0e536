"""The columns of progress.csv, the metrics of a run."""

from __future__ import annotations

#: Columns of progress.csv, in this order.
COLUMNS = (
    "training_iteration",
    "phase",
    "epoch",
    "progress",
    "updates",
    "transitions",
    "pairs",
    "transitions_per_second",
    "pairs_per_second",
    "time/data_wait_share",
    "time/learner_idle_share",
    "time_total_s",
    "losses/reward_loss",
    "losses/value_loss",
    "losses/qf_loss",
    "losses/actor_loss",
    "reward/accuracy_train",
    "reward/accuracy_any_users",
    "reward/accuracy_within_user",
    "reward/loss_any_users",
    "reward/loss_within_user",
    "values/reward_mean",
    "values/q_mean",
    "values/v_mean",
    "policy/action_saturation",
    "policy/item_distance",
    "policy/items_served",
)

#: Additional columns for scores on validation users: roll-outs in a model of users, preferences, fitted-Q evaluation,
#: NCIS (Eq. 12) with its effective sample size, and the true level.
SCORES = tuple(f"validation/{name}" for name in ("model", "preference", "fqe", "ncis", "ess", "online"))
