"""A policy as a model of MLflow: from states and from histories, also in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_desk import STATE, make_policy

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import DAY_MS
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.nightly.mlflow_model import PolicyModel, save_model

NOW = 1_700_000_000_000
POLICY = make_policy(serving=ServingSettings(rest_days=2.0))


def history(impressions: list[tuple[str, int, int, float]]) -> pd.DataFrame:
    """User, hours before `NOW`, item, and `watch`."""
    return pd.DataFrame(
        {
            "user_id": [user for user, *_ in impressions],
            "timestamp": [NOW - 3_600_000 * hours for _, hours, _, _ in impressions],
            "item_id": [item for *_, item, _ in impressions],
            "like": 1.0,
            "watch": [watch for *_, watch in impressions],
            "country": "fr",
        }
    )


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 80), st.integers(0, 45), st.floats(0, 1)),
        min_size=1,
        max_size=12,
        unique_by=lambda one: one[:2],
    )
)
def test_a_history_is_served_as_a_tracker_that_observed_it(impressions: list[tuple[str, int, int, float]]) -> None:
    frame = history(impressions)
    found = PolicyModel(POLICY).predict(frame, {"k": 4, "seed": 1, "now": NOW})
    assert sorted(found["user_id"]) == sorted({user for user, *_ in impressions})
    tracker = POLICY.tracker({"country": np.array(["fr"] * len(found))})
    resting: list[list[int]] = []
    for row, user in enumerate(found["user_id"]):
        own = frame[frame["user_id"] == user].sort_values("timestamp")
        for _, one in own.iterrows():
            feedback = {name: np.array([one[name]]) for name in STATE.feedback}
            tracker.observe(np.array([one["timestamp"]]), np.array([one["item_id"]]), feedback, users=np.array([row]))
        resting.append(own["item_id"][NOW - own["timestamp"] < 2 * DAY_MS].tolist())
    states = tracker.states(np.array([NOW] * len(found)))
    served = POLICY.serve(states, 4, [np.array(items, int) for items in resting], 1)
    assert found["items"].tolist() == served.items.tolist()
    assert found["propensities"].tolist() == served.propensities.tolist()
    for items, excluded in zip(found["items"], resting, strict=True):
        assert not set(items) & set(excluded)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(
        UserError, match=r"history: column 'watch' is missing; found user_id, timestamp, item_id, like, "
    ):
        PolicyModel(POLICY).predict(history([("a", 3, 4, 0.5)]).drop(columns="watch"))


def test_a_saved_model_is_loaded_in_a_process_without_ray(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    POLICY.save(str(tmp_path / "policy"))
    save_model(str(tmp_path / "policy"), str(tmp_path / "model"))
    frame = history([("a", 3, 4, 0.5), ("b", 2, 7, 0.1)])
    frame.to_json(tmp_path / "frame.json")
    program = (
        "import sys, mlflow, pandas\n"
        f"model = mlflow.pyfunc.load_model('{tmp_path}/model')\n"
        f"found = model.predict(pandas.read_json('{tmp_path}/frame.json', convert_dates=False),\n"
        f"    params={{'k': 3, 'seed': 5, 'now': {NOW}}})\n"
        f"found.to_json('{tmp_path}/found.json', double_precision=15)\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    found = pd.read_json(tmp_path / "found.json")
    expected = PolicyModel(POLICY).predict(frame, {"k": 3, "seed": 5, "now": NOW})
    assert found["items"].tolist() == expected["items"].tolist()
    np.testing.assert_allclose(found["propensities"].tolist(), expected["propensities"].tolist(), rtol=1e-12)
