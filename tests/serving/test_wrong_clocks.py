"""A clock that was wrong for a while: users go on in the right time, and client times are checked by the clock now."""

from pathlib import Path

import numpy as np
import pytest
from platform_desk import Desk, make_policy
from test_engine import rows_of

from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.web.problems import Problem

NOW = 1_700_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "policy"
    make_policy().save(str(folder))
    return folder


def own(user: int, name: str, **more: object) -> Feedback:
    return Feedback(event_id=name, user=user, item=3, feedback={"watch": 0.5}, **more)


@pytest.mark.parametrize("save", [False, True])
def test_a_user_goes_on_in_the_right_time_after_a_clock_was_300_days_ahead(
    bundle: Path, tmp_path: Path, save: bool
) -> None:
    desk = Desk(bundle, tmp_path)
    desk.one(own(1, "a"), NOW)
    desk.one(own(1, "b"), NOW + 300 * DAY)
    desk.one(own(1, "c"), NOW + HOUR)
    desk.one(own(1, "d", timestamp=NOW + HOUR - 5 * MINUTE), NOW + HOUR + 1)
    desk.one(Recommend(user=1, k=2), NOW + 2 * HOUR)
    desk.one(own(1, "e"), NOW + 3 * HOUR)
    times = [row["timestamp"] - NOW for row in rows_of(desk)]
    assert times == [0, 300 * DAY, HOUR, HOUR, 2 * HOUR, 3 * HOUR]
    state = desk.states(NOW + 4 * HOUR)[1]
    assert np.isfinite(state).all()
    desk.stop(save)
    desk = Desk(bundle, tmp_path)
    assert desk.states(NOW + 4 * HOUR)[1].tobytes() == state.tobytes()
    assert desk.engine.state.users.last(0) == NOW + 3 * HOUR
    desk.stop()


def test_the_state_after_a_wrong_clock_is_the_state_of_a_user_who_came_at_the_next_right_time(
    bundle: Path, tmp_path: Path
) -> None:
    desk = Desk(bundle, tmp_path)
    for user, time in ((1, NOW + 300 * DAY), (2, NOW + HOUR)):
        desk.one(own(user, "first"), time)
    for time in (NOW + HOUR, NOW + 2 * HOUR):
        for user in (1, 2):
            desk.one(own(user, f"at {time}"), time)
    states = desk.states(NOW + 5 * HOUR)
    assert states[1].tobytes() == states[2].tobytes()
    desk.stop()


def test_items_of_a_wrong_clock_rest_no_longer_than_others(tmp_path: Path) -> None:
    make_policy(items=3, serving=ServingSettings(rest_days=1.0)).save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    assert len(desk.one(Recommend(user=1, k=3), NOW + 300 * DAY)["items"]) == 3
    assert len(desk.one(Recommend(user=1, k=3), NOW)["items"]) == 3
    assert desk.one(Recommend(user=1, k=3), NOW + HOUR)["items"] == []
    desk.stop()


def test_client_times_are_at_most_10_minutes_ahead_of_the_clock_now(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    desk.one(own(1, "a"), NOW + 300 * DAY)
    for ahead in (10 * MINUTE + 1, 300 * DAY):
        for body in (own(1, "b", timestamp=NOW + ahead), Recommend(user=1, timestamp=NOW + ahead)):
            line = rf"^timestamp: found {NOW + ahead}; expected at most 10 minutes after the server's clock, {NOW}$"
            with pytest.raises(Problem, match=line):
                desk.one(body, NOW)
    assert desk.one(own(1, "c", timestamp=NOW + 10 * MINUTE), NOW)["status"] == "counted"
    assert rows_of(desk)[-1]["timestamp"] == NOW + 10 * MINUTE
    desk.stop()
