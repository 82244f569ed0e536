"""Invalid, malformed and late requests are refused before anything is changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from platform_desk import STATE, Desk, make_policy
from pydantic import ValidationError
from state_definitions import changed

from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.serving.requests.bodies import DeleteItems, Feedback, PutItems, Recommend, parse, parse_recommend
from prefrec_ray.web.problems import Problem

NOW, MINUTE = 1_700_000_000_000, 60_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_policy().save(str(folder))
    return folder


def test_the_largest_numbers_of_feedback_leave_states_finite(tmp_path: Path) -> None:
    make_policy(state=changed(STATE, feedback_kinds={}), serving=ServingSettings(rest_days=0.0)).save(
        str(tmp_path / "policy")
    )
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    for turn in range(100):
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
    assert len(desk.engine.state.users) == desk.engine.log.next == 1
    assert desk.one(Feedback(**of_shown, timestamp=NOW + 10 * MINUTE), NOW)["status"] == "counted"
    assert desk.one(Feedback(**of_own, timestamp=100_000_000_000), NOW)["status"] == "counted"


@pytest.mark.parametrize("seconds", [0, NOW // 1000, 4_102_444_800, 99_999_999_999])
def test_a_time_in_seconds_is_refused(seconds: int) -> None:
    """Read as ms, the time would be in 1970, before all other events of the user."""
    body = f'{{"user": 2, "timestamp": {seconds}}}'.encode()
    with pytest.raises(Problem, match=f"key 'timestamp': expected ms since 1970, .*, found {seconds}") as caught:
        parse_recommend(body)
    assert caught.value.status == 422


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
    assert desk.engine.log.next == 2 + taken
    later = desk.one(Recommend(user=1, k=1), NOW + minutes * MINUTE)
    again = Feedback(event_id=later["event_id"], feedback={"like": 1.0})
    assert desk.one(again, NOW + minutes * MINUTE)["status"] == "counted"


@pytest.mark.parametrize(
    ("model", "body", "line"),
    [
        (Recommend, b'{"user": true}', "key 'user': expected a whole number or a text, found True"),
        (
            Recommend,
            b'{"user": "a\\u0000"}',
            "key 'user': expected a whole number or an id without NUL, found 'a\\x00'",
        ),
        (
            Recommend,
            b'{"user": 1, "exclude": [2, 1.5]}',
            "key 'exclude.1': expected a whole number or a text, found 1.5",
        ),
        (
            Recommend,
            b'{"user": ""}',
            "key 'user': expected a whole number or a text of at least 1 characters, found ''",
        ),
        (Recommend, b'{"user": 1, "candidates": 3}', "key 'candidates': expected a list, found 3"),
        (
            Recommend,
            b'{"user": 1, "candidates": [4, [5, 0.5]]}',
            "key 'candidates.1': expected a whole number or a text, found [5, 0.5]",
        ),
        (
            Recommend,
            b'{"user": 1, "candidates": [[4, 0], [5, 1e9]]}',
            "key 'candidates.1.1': expected less than or equal to 1000, found 1000000000.0",
        ),
        (
            Recommend,
            b'{"user": 1, "candidates": [[4, NaN]]}',
            "key 'candidates.0.1': expected a finite number, found nan",
        ),
        (Recommend, b'{"user": 1, "features": 3}', "key 'features': expected a mapping, found 3"),
        (Recommend, b"[1]", "key '(top)': expected a mapping, found [1]"),
        (
            Feedback,
            b'{"event_id": "a-1", "feedback": {"click": "x"}}',
            "key 'feedback.click': expected a number, found 'x'",
        ),
        (Feedback, b'{"event_id": "a-1", "feedbak": {}}', "key 'feedback' is missing"),
        (Feedback, b'{"event_id": "a-1", "feedback": {}, "dwell": 3}', "unknown key; did you mean 'dwell_ms'?"),
        (PutItems, b'{"items": [{"embedding": [0]}]}', "key 'items.0.id' is missing"),
        (
            PutItems,
            b'{"items": [{"id": 1, "embedding": [2]}]}',
            "'items.0.embedding.0': expected less than or equal to 1",
        ),
        (DeleteItems, b'{"ids": 3}', "key 'ids': expected a list, found 3"),
    ],
)
def test_a_body_of_another_form_is_one_line_with_key_expected_and_found(model: type, body: bytes, line: str) -> None:
    with pytest.raises(Problem) as caught:
        parse(model, body)
    assert caught.value.status == 422
    assert line in caught.value.detail


def test_what_is_no_json_is_400() -> None:
    with pytest.raises(Problem) as caught:
        parse(Recommend, b"[1")
    assert caught.value.status == 400
    assert caught.value.detail.startswith("Invalid JSON")


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (PutItems, b'{"items": [%s]}' % b",".join([b'{"id": 1, "embedding": [2, 2, 2]}'] * 100)),
        (DeleteItems, b'{"ids": [%s]}' % b",".join([b"1.5"] * 100)),
        (Recommend, b'{"user": 1, "exclude": [%s]}' % b",".join([b"1.5"] * 100)),
    ],
)
def test_only_the_first_of_many_mistakes_is_looked_for(model: type, body: bytes) -> None:
    """A million numbers in another unit were a million problems in memory: 1.7 GB for a body of 2 MB."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(body)  # type: ignore[attr-defined]
    assert caught.value.error_count() <= 2  # both kinds that an id may be of
