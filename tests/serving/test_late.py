"""Feedback that comes too late, on a server that was idle meanwhile."""

from pathlib import Path

import pytest
from platform_desk import Desk, make_policy

from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.web.problems import Problem

NOW, MINUTE = 1_700_000_000_000, 60_000


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("minutes", "taken"), [(59, True), (62, False), (3000, False)])
def test_late_feedback_is_refused_though_nothing_came_meanwhile(
    tmp_path: Path, minutes: int, taken: bool, restart: bool
) -> None:
    make_policy().save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state", feedback_hours=1)
    desk.one(Recommend(user=2, k=1), NOW - MINUTE // 2)
    shown = desk.one(Recommend(user=1, k=1), NOW)
    if restart:
        desk.stop()
        desk = Desk(tmp_path / "policy", tmp_path / "state", feedback_hours=1)
    body = Feedback(event_id=shown["event_id"], feedback={"like": 1.0})
    if taken:
        assert desk.one(body, NOW + minutes * MINUTE)["status"] == "counted"
        assert desk.one(body, NOW + minutes * MINUTE)["status"] == "known"
    else:
        with pytest.raises(Problem, match="more than 1 hours old") as caught:
            desk.one(body, NOW + minutes * MINUTE)
        assert caught.value.status == 410
    assert len(desk.engine.log) == 2 + taken
    later = desk.one(Recommend(user=1, k=1), NOW + minutes * MINUTE)
    again = Feedback(event_id=later["event_id"], feedback={"like": 1.0})
    assert desk.one(again, NOW + minutes * MINUTE)["status"] == "counted"
