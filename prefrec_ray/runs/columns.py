"""The columns of progress.csv, and live metrics of a run: gauges on Ray's Prometheus endpoint.

Every number in a row of progress.csv becomes a gauge `prefrec_<column>` of the node that trains, with the tags run,
method and task (cluster/grafana.json draws them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

#: The metrics of an iteration by column.
Row = dict[str, Any]

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


def publish(row: Mapping[str, Any], run: str, method: str, task: str) -> None:
    """Publish the row of an iteration for the run or trial named `run`."""
    tags = {"run": run, "method": method, "task": task}
    for column, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            _gauge(column).set(float(value), tags)


def finite(value: Any) -> Any:
    """Return a value of a row, or None if it is NaN or infinite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def gauge_name(column: str) -> str:
    """Return the gauge name of a column of progress.csv. In Prometheus it has Ray's prefix `ray_`."""
    return "prefrec_" + "".join(letter if letter.isalnum() else "_" for letter in column)


@cache
def _gauge(column: str) -> Gauge:
    from ray.util.metrics import Gauge  # settings of a sweep import this module, without Ray

    return Gauge(gauge_name(column), description=f"{column} of progress.csv", tag_keys=("run", "method", "task"))
