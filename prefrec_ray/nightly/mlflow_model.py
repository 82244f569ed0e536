"""A policy as a model of MLflow, flavor pyfunc: states or histories of users in, items and propensities out.

MLflow loads a model by this module, without a pickle: its data are the policy bundle.
"""

from __future__ import annotations

import time
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy


def save_model(bundle: str, path: str) -> None:
    """Save the policy in the local folder `bundle` as a model in the new folder `path`."""
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ParamSchema, ParamSpec

    params = ParamSchema([ParamSpec("k", "long", 10), ParamSpec("seed", "long", None), ParamSpec("now", "long", None)])
    with warnings.catch_warnings():  # it asks for an example of the input
        warnings.simplefilter("ignore", UserWarning)
        save_model(
            path,
            loader_module=__name__,
            data_path=bundle,
            signature=ModelSignature(params=params),
            pip_requirements=[f"prefrec-ray=={version('prefrec-ray')}"],
        )


class PolicyModel:
    """The object behind `mlflow.pyfunc.load_model`."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return `items` and `propensities` (lists of length k, as from `Policy.serve`) for each state or user.

        A frame with the column `state` has one scaled state [S] per row. Any other frame is a history with one
        impression per row: `user_id`, `timestamp` (ms, UTC), `item_id`, every kind of feedback and every user feature
        of the policy. The result has one row per user, with `user_id`; items that rest are excluded. Parameters: `k`
        (10), `seed`, and the time of the recommendation `now` (ms, UTC; by default the clock). Raises `UserError` for a
        missing column, and like `Policy.serve`.
        """
        given = {"k": 10, "seed": None, "now": None, **(params or {})}
        if "state" in frame:
            served = self._policy.serve(np.array(frame["state"].tolist(), np.float32), given["k"], seed=given["seed"])
            return _table(served.items, served.propensities)
        now = round(1000 * time.time()) if given["now"] is None else given["now"]
        return self._after(frame, given["k"], given["seed"], now)

    def _after(self, history: pd.DataFrame, k: int, seed: int | None, now: int) -> pd.DataFrame:
        """Return recommendations at `now` to the users of a history."""
        state = self._policy.state
        for name in ("user_id", "timestamp", "item_id", *state.feedback, *state.user_features):
            if name not in history:
                found = ", ".join(map(str, history.columns))
                raise UserError(f"history: column '{name}' is missing; found {found} (or the column 'state')")
        history = history.sort_values("timestamp", kind="stable")
        row, users = pd.factorize(history["user_id"])
        features = history.groupby(row)[list(state.user_features)].last()
        tracker = self._policy.tracker(dict(features.items()) if state.user_features else len(users))
        turn = history.groupby(row).cumcount().to_numpy()
        for each in range(turn.max(initial=-1) + 1):
            now_shown = history[turn == each]
            feedback = {name: now_shown[name].to_numpy() for name in state.feedback}
            times, items = now_shown["timestamp"].to_numpy(), now_shown["item_id"].to_numpy()
            tracker.observe(times, items, feedback, users=row[turn == each])
        rests = (now - history["timestamp"] < self._policy.serving.rest_ms()).to_numpy()
        by_user = np.argsort(row[rests], kind="stable")
        ends = np.bincount(row[rests], minlength=len(users)).cumsum()
        exclude = np.split(history["item_id"].to_numpy()[rests][by_user], ends[:-1])[: len(users)]
        states = tracker.states(np.full(len(users), now))
        recent = tracker.recent() if self._policy.penalises_repetition else None
        served = self._policy.serve(states, k, exclude, seed, recent)
        return _table(served.items, served.propensities, user_id=users)


def _table(items: np.ndarray, propensities: np.ndarray, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({**columns, "items": items.tolist(), "propensities": propensities.tolist()})


def _load_pyfunc(path: str) -> PolicyModel:
    """Load the model; MLflow calls this function with the path of the bundle."""
    return PolicyModel(Policy.load(path))
