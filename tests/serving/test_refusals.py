"""What a request may not bring: it is refused before anything is changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from platform_desk import STATE, Desk, make_policy
from pydantic import ValidationError

from prefrec_ray.serving.bodies import Feedback, Recommend
from prefrec_ray.web.problems import Problem

NOW, MINUTE = 1_700_000_000_000, 60_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_policy().save(str(folder))
    return folder


def test_the_largest_numbers_of_feedback_leave_states_finite(tmp_path: Path) -> None:
    make_policy(state=replace(STATE, feedback_kinds={})).save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state", leave_out="nothing")
    for turn in range(300):
        value = (-1) ** turn * 1e12
        desk.one(Feedback(event_id=f"own {turn}", user=1, item=turn % 40, feedback={"like": value, "watch": 1e12}))
    assert np.isfinite(desk.states(NOW)[1]).all()
    assert len(desk.one(Recommend(user=1))["items"]) == 10
    for value in (1.1e12, -1.1e12, 3.4e38):
        with pytest.raises(ValidationError, match="feedback.like"):
            Feedback(event_id="own", user=1, item=1, feedback={"like": value})


@pytest.mark.parametrize("save", [False, True])
def test_a_refused_first_request_does_not_fix_the_type_of_user_ids(bundle: Path, tmp_path: Path, save: bool) -> None:
    desk = Desk(bundle, tmp_path)
    with pytest.raises(Problem, match=r"features\.age: unknown feature"):
        desk.one(Recommend(user="typo", features={"age": "9"}))
    assert len(desk.engine.state.people) == 0
    desk.stop(save)
    assert Desk(bundle, tmp_path).one(Recommend(user=1))["items"]
