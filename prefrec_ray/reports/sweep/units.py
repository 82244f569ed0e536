"""Names, units and formats of metrics on the page of a sweep."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEVELS = (0.0, 5.0)


@dataclass(frozen=True)
class Metric:
    """Title, unit and format of a metric; `limits`: its range."""

    title: str
    unit: str = ""
    form: str = "{:z.4g}"
    limits: tuple[float, float] = (-math.inf, math.inf)

    @property
    def is_level(self) -> bool:
        """Return True if values are levels, for which relative differences are meaningful."""
        return self.limits == LEVELS

    @property
    def axis(self) -> str:
        """Return the label of an axis."""
        return f"{self.title}\n({self.unit})" if self.unit else self.title


_LEVEL = "level, 0 to 5"
#: Keys: estimators of an evaluation, which are also the names behind "validation/".
ESTIMATORS = {
    "online": Metric("True level", _LEVEL, "{:z.2f}", LEVELS),
    "model": Metric("Model of users", _LEVEL, "{:z.2f}", LEVELS),
    "dr": Metric("Doubly robust", _LEVEL, "{:z.3f}", LEVELS),
    "fqe": Metric("Fitted-Q", _LEVEL, "{:z.3f}", LEVELS),
    "preference": Metric("Preference", "thousandths of a standard deviation", "{:z.1f}"),
    "weights": Metric("Importance weights", _LEVEL, "{:z.3f}", LEVELS),
    "ncis": Metric("NCIS", _LEVEL, "{:z.3f}", LEVELS),
}
_UNITS = {
    "validation/ess": "share of sessions",
    "losses/reward_loss": "nats per pair",
    "reward/loss": "nats per pair",
    "reward/accuracy": "share of pairs",
    "policy/action_saturation": "share of coordinates",
    "policy/items_served": "items",
    "transitions_per_second": "transitions per second",
    "pairs_per_second": "pairs per second",
    "time/": "share of the time",
    "time_total_s": "seconds",
}
#: Explanations by estimator.
NOTES = {
    "model": "A validation score of a policy that leads users to states outside the log has 5 less.",
    "preference": "Preference: the expected reward of the policy's items over the next 100 impressions, minus the "
    "expected reward of the logged items, in thousandths of the standard deviation of the reward's labels. It ranks "
    "policies; it is not a level.",
    "ncis": "NCIS ranks policies; the size of its gains is biased: compare it with the negative controls before the "
    "logging policy.",
}


def metric_of(column: str) -> Metric:
    """Return the metric of a column of trials.csv; one of a user's method has its name only."""
    estimator = ESTIMATORS.get(column.removeprefix("validation/"))
    if estimator is not None:
        return estimator
    unit = next((unit for start, unit in _UNITS.items() if column.startswith(start)), "")
    return Metric(column, unit)
