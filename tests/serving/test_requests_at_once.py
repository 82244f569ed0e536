"""Several users in one request, and the items of a page in one feedback: all of it or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_desk import Desk, make_policy, with_server

from prefrec_ray.logs.events.format import Kind
from prefrec_ray.serving.requests.bodies import Feedback, FeedbackBatch, Recommend, parse_feedback, parse_recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.web.problems import Problem

NOW = 1_700_000_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_policy().save(str(folder))
    return folder


def recommend(*requests: dict[str, Any]) -> Any:
    return parse_recommend(json.dumps({"requests": requests}).encode())


def feedback(event_id: str, *items: dict[str, Any], **more: Any) -> Any:
    return parse_feedback(json.dumps({"event_id": event_id, "items": items, **more}).encode())


def logged_feedback(desk: Desk) -> list[dict[str, Any]]:
    return [row for table in desk.engine.log.tables() for row in table.to_pylist() if row["kind"] == Kind.FEEDBACK]


def test_users_are_replied_to_in_order(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    body = recommend({"user": 7, "k": 2}, {"user": 3, "k": 5, "candidates": [8, 9]}, {"user": 5})
    replies = desk.one(body)["replies"]
    assert [len(reply["items"]) for reply in replies] == [2, 2, 10]
    rows = [row for table in desk.engine.log.tables() for row in table.to_pylist()]
    assert [(row["user_number"], row["items"], row["event_id"]) for row in rows] == [
        (user, reply["items"], reply["event_id"]) for user, reply in zip((7, 3, 5), replies, strict=True)
    ]
    for user, reply in zip((7, 3, 5), replies, strict=True):
        body = Feedback(event_id=reply["event_id"], user=user, item=reply["items"][0], feedback={"like": 1.0})
        assert desk.one(body)["status"] == "counted"


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ({"user": "text"}, "requests.1.user: found 'text'; expected an id of the same type as 1"),
        ({"user": 2, "features": {"age": "9"}}, "requests.1.features.age: unknown feature; expected some of country"),
        ({"user": 2, "pins": [[10, 3]]}, "requests.1.pins: found position 10; expected 0 to 9, as k is 10"),
        ({"user": 1}, "requests.1.user: found 1 twice; expected each user once"),
        ({"user": 2, "k": 0}, "key 'requests.1.k': expected greater than or equal to 1, found 0"),
        (
            {"user": 2, "timestamp": NOW + 10**9},
            f"requests.1.timestamp: found {NOW + 10**9}; expected at most 10 minutes after the server's clock, {NOW}",
        ),
    ],
)
def test_a_bad_request_refuses_all_of_them(bundle: Path, tmp_path: Path, bad: dict[str, Any], line: str) -> None:
    desk = Desk(bundle, tmp_path)
    with pytest.raises(Problem) as caught:
        desk.one(recommend({"user": 1, "features": {"country": "de"}}, bad, {"user": 3}))
    assert (caught.value.status, caught.value.detail) == (422, line)
    assert len(desk.engine.state.users) == desk.engine.log.next == 0


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"requests": []}', "key 'requests': expected at least 1 entries, found []"),
        (b'{"requests": [{"user": 1}], "user": 2}', "key 'user': unknown key"),
        (b'{"requests": [{"user": 1, "pins": [[64, 3]]}]}', "key 'requests.0.pins.0.0': expected less than 64"),
        (b'{"user": 1, "candidates": [[3, 1e4]]}', "key 'candidates"),
        (b'{"user": "requests", "kk": 1}', "key 'kk': unknown key; did you mean 'k'?"),
    ],
)
def test_a_body_of_another_form_is_one_line(content: bytes, line: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_recommend(content)
    assert caught.value.status == 422
    assert caught.value.detail.startswith(line)
    assert parse_recommend(b'{"user": "requests"}') == Recommend(user="requests")


def test_a_page_counts_at_once_also_after_a_restart(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    shown = desk.one(Recommend(user=1, k=4), NOW)
    first, second, third, _ = shown["items"]
    page = feedback(
        shown["event_id"],
        {"item": third, "feedback": {"like": 1}, "dwell_ms": 900},
        {"item": first, "feedback": {}},
        timestamp=NOW + 5000,
    )
    reply = {"event_id": shown["event_id"], "items": [{"item": item, "status": "counted"} for item in (third, first)]}
    assert desk.one(page, NOW + 9000) == reply
    rows = logged_feedback(desk)
    assert [(row["items"], row["position"], row["timestamp"]) for row in rows] == [
        ([third], 2, NOW + 5000),
        ([first], 0, NOW + 5000),
    ]
    assert [row["propensities"][0] for row in rows] == [shown["propensities"][2], shown["propensities"][0]]
    assert (rows[0]["feedback"], rows[0]["dwell_ms"], rows[1]["feedback"]) == ([1.0, 0.0], 900, [0.0, 0.0])
    before = desk.states(NOW + 10_000)[1].tobytes()
    more = feedback(shown["event_id"], {"item": first, "feedback": {}}, {"item": second, "feedback": {}})
    for save, status in ((False, ["known", "counted"]), (True, ["known"] * 2), (False, ["known"] * 2)):
        desk.stop(save)
        desk = Desk(bundle, tmp_path)
        assert {one["status"] for one in desk.one(page, NOW + 9000)["items"]} == {"known"}
        if status[1] == "counted":
            assert desk.states(NOW + 10_000)[1].tobytes() == before
        assert [one["status"] for one in desk.one(more, NOW + 9000)["items"]] == status
    assert len(logged_feedback(desk)) == 3


def test_a_page_of_the_clients_own_counts_once(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    page = feedback("page 7", {"item": 3, "feedback": {}}, {"item": 10**6, "feedback": {}}, user=1)
    for save, status in ((False, "counted"), (True, "known"), (False, "known")):
        assert {one["status"] for one in desk.one(page)["items"]} == {status}
        desk.stop(save)
        desk = Desk(bundle, tmp_path)
    single = Feedback(event_id="page 7", user=1, item=3, feedback={})
    assert desk.one(single)["status"] == "known"


@pytest.mark.parametrize(
    ("bad", "status", "line"),
    [
        ({"item": 10**6}, 422, "items.1.item: found 1000000; expected one of the 3 items of EVENT"),
        ({"item": "first"}, 422, "items.1.item: found FIRST twice; expected each item once"),
        ({"feedback": {"like": 2}}, 422, "items.1.feedback.like: found 2; expected 0 or 1"),
        ({"feedback": {"stars": 1}}, 422, "items.1.feedback.stars: unknown; expected some of like, watch"),
    ],
)
def test_one_bad_item_refuses_the_page(
    bundle: Path, tmp_path: Path, bad: dict[str, Any], status: int, line: str
) -> None:
    desk = Desk(bundle, tmp_path)
    shown = desk.one(Recommend(user=1, k=3))
    first, second, third = shown["items"]
    item = {"item": second, "feedback": {}, **bad}
    item["item"] = first if item["item"] == "first" else item["item"]
    page = feedback(shown["event_id"], {"item": first, "feedback": {}}, item, {"item": third, "feedback": {}})
    with pytest.raises(Problem) as caught:
        desk.one(page)
    expected = line.replace("EVENT", shown["event_id"]).replace("FIRST", str(first))
    assert (caught.value.status, caught.value.detail) == (status, expected)
    assert logged_feedback(desk) == []
    with pytest.raises(Problem, match="expected the id of a recommendation, or user and item"):
        desk.one(feedback("own", {"item": first, "feedback": {}}))
    with pytest.raises(Problem, match=r"items\.1\.item: found 'a'; expected a whole number"):
        desk.one(feedback("own", {"item": 3, "feedback": {}}, {"item": "a", "feedback": {}}, user=5))
    assert len(desk.engine.state.users) == 1
    assert desk.one(Feedback(event_id=shown["event_id"], item=first, feedback={}))["status"] == "counted"


pages = st.lists(
    st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.sampled_from(["", "restart", "kill"])),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=25)
@given(pages)
def test_each_item_counts_once_whatever_pages_come(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory, pages: list[tuple[list[int], str]]
) -> None:
    """Pages of any positions. A page with a position twice, or with 4 or 5, which were not shown, is refused."""
    folder = tmp_path_factory.mktemp("state")
    desk = Desk(bundle, folder)
    shown = desk.one(Recommend(user=1, k=4))
    items, counted = [*shown["items"], 10**6, 10**7], set[int]()
    for positions, ending in pages:
        body = feedback(shown["event_id"], *({"item": items[at], "feedback": {"watch": 1}} for at in positions))
        if max(positions) > 3 or len(set(positions)) < len(positions):
            with pytest.raises(Problem):
                desk.one(body)
        else:
            status = [one["status"] for one in desk.one(body)["items"]]
            assert status == ["known" if at in counted else "counted" for at in positions]
            counted |= set(positions)
        if ending:
            desk.stop(save=ending == "restart")
            desk = Desk(bundle, folder)
        assert sorted(row["position"] for row in logged_feedback(desk)) == sorted(counted)
    desk.stop()


def test_each_part_is_counted_by_the_metrics(bundle: Path, tmp_path: Path) -> None:
    async def act(server: Server) -> None:
        replies = (await server.do(recommend({"user": 1, "k": 2}, {"user": 2, "k": 2}))).body["replies"]
        page = [{"item": item, "feedback": {}} for item in replies[0]["items"]]
        await server.do(feedback(replies[0]["event_id"], *page))
        again = FeedbackBatch(event_id=replies[0]["event_id"], items=page[:1])
        await server.do(again)
        text = server.metrics.text(server.state).decode()
        assert 'prefrec_serve_recommended_total{arm="main"} 2.0' in text
        assert 'prefrec_serve_feedback_total{outcome="counted"} 2.0' in text
        assert 'prefrec_serve_feedback_total{outcome="known"} 1.0' in text

    with_server(bundle, tmp_path, act)
