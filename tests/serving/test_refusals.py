"""What a request may not bring: it is refused before anything is changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from platform_desk import STATE, Desk, make_policy
from pydantic import ValidationError

from prefrec_ray.serving.bodies import Feedback, Recommend


def test_the_largest_numbers_of_feedback_leave_states_finite(tmp_path: Path) -> None:
    make_policy(state=replace(STATE, feedback_kinds={})).save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state", leave_out="nothing")
    for turn in range(300):
        value = (-1) ** turn * 1e12
        desk.one(Feedback(event_id=f"own {turn}", user=1, item=turn % 40, feedback={"like": value, "watch": 1e12}))
    assert np.isfinite(desk.states(1_700_000_000_000)[1]).all()
    assert len(desk.one(Recommend(user=1))["items"]) == 10
    for value in (1.1e12, -1.1e12, 3.4e38):
        with pytest.raises(ValidationError, match="feedback.like"):
            Feedback(event_id="own", user=1, item=1, feedback={"like": value})
