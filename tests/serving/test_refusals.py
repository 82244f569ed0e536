"""Invalid requests are refused before anything is changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from platform_desk import STATE, Desk, make_policy
from pydantic import ValidationError

from prefrec_ray.serving.requests.bodies import Feedback, Recommend
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
        with pytest.raises(ValidationError, match=r"feedback\.like"):
            Feedback(event_id="own", user=1, item=1, feedback={"like": value})


@pytest.mark.parametrize("save", [False, True])
def test_a_refused_first_request_does_not_fix_the_type_of_user_ids(bundle: Path, tmp_path: Path, save: bool) -> None:
    desk = Desk(bundle, tmp_path)
    with pytest.raises(Problem, match=r"features\.age: unknown feature"):
        desk.one(Recommend(user="typo", features={"age": "9"}))
    assert len(desk.engine.state.users) == 0
    desk.stop(save)
    assert Desk(bundle, tmp_path).one(Recommend(user=1))["items"]


def test_a_time_ahead_of_the_clock_is_refused(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    shown = desk.one(Recommend(user=1, timestamp=NOW + 10 * MINUTE), NOW)
    of_shown = {"event_id": shown["event_id"], "item": shown["items"][0], "feedback": {"like": 1.0}}
    of_own = {"event_id": "own", "user": 2, "item": 3, "feedback": {}}
    for ahead in (10 * MINUTE + 1, 4_000_000_000_000 - NOW):
        for body in (
            Recommend(user=2, timestamp=NOW + ahead),
            Feedback(**of_shown, timestamp=NOW + ahead),
            Feedback(**of_own, timestamp=NOW + ahead),
        ):
            with pytest.raises(Problem, match=rf"timestamp: found {NOW + ahead}; .* clock, {NOW}$") as caught:
                desk.one(body, NOW)
            assert caught.value.status == 422
    assert len(desk.engine.state.users) == len(desk.engine.log) == 1
    assert desk.one(Feedback(**of_shown, timestamp=NOW + 10 * MINUTE), NOW)["status"] == "counted"
    assert desk.one(Feedback(**of_own, timestamp=0), NOW)["status"] == "counted"


@pytest.mark.parametrize("save", [False, True])
def test_a_clock_that_jumped_back_refuses_no_time_that_was_right(bundle: Path, tmp_path: Path, save: bool) -> None:
    desk = Desk(bundle, tmp_path)
    desk.one(Recommend(user=1), NOW)
    desk.stop(save)
    desk, back = Desk(bundle, tmp_path), NOW - 90 * 60 * MINUTE
    assert desk.one(Recommend(user=1, timestamp=NOW), back)["items"]
    with pytest.raises(Problem, match="expected at most 10 minutes"):
        desk.one(Recommend(user=1, timestamp=NOW + 11 * MINUTE), back)
