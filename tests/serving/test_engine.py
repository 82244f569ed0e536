"""The server without HTTP: time of feedback, memory of users, and rows of the log."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_desk import STATE, Desk, make_policy
from scipy.stats import chisquare
from state_definitions import changed

from prefrec_ray.engagement import session_numbers
from prefrec_ray.ids import changes
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.mdp.bulk import HistoryRows, raw_states
from prefrec_ray.mdp.frozen import at_once
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.serving.requests.bodies import Feedback, PutItem, Recommend
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.serving.state.users import ServedUsers
from prefrec_ray.web.problems import Problem

HOUR, NOW = 3_600_000, 1_700_000_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_policy().save(str(folder))
    return folder


@pytest.fixture(scope="module")
def paged_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_policy(state=changed(STATE, pages=True), serving=ServingSettings(rest_days=0.0)).save(str(folder))
    return folder


@pytest.fixture(scope="module")
def restless_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy whose items do not rest."""
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_policy(serving=ServingSettings(rest_days=0.0)).save(str(folder))
    return folder


def rows_of(desk: Desk) -> list[dict[str, Any]]:
    return [row for table in desk.engine.log.tables() for row in table.to_pylist()]


def plain_states(desk: Desk, now: int) -> dict[Any, np.ndarray]:
    """Each user's state at `now`, in bulk from the rows of the log: what `prepare` computes, without Ray."""
    states, policy = {}, desk.engine.state.policy
    paged = policy.state.pages
    rows = [row for row in rows_of(desk) if row["kind"] == Kind.FEEDBACK and row["known"]]
    noted_rows = [row for row in rows_of(desk) if row["kind"] == Kind.RECOMMENDED and row["note"]]
    notes = {row["user_number"]: json.loads(row["note"])["country"] for row in noted_rows}
    for user in desk.engine.state.users.ids:
        mine = [row for row in rows if row["user_number"] == user]
        times = np.array([*(row["timestamp"] for row in mine), now])
        assert (np.diff(times) >= 0).all()
        number = np.cumsum(changes(np.array([*(row["event_id"] if paged else row["number"] for row in mine), "now"])))
        times = times[np.searchsorted(number, number)]  # a page has the time of its first row
        items = policy.items.rows(np.array([*(row["items"][0] for row in mine), 0]))
        feedback = np.array([*(row["feedback"] for row in mine), [0, 0]], np.float32)
        history = HistoryRows(
            starts=np.array([0]),
            timestamp=times,
            session=session_numbers(np.zeros(len(times)), times, STATE.session_gap_ms),
            feedback=feedback,
            embeddings=policy.items.embeddings[items],
            profile=STATE.one_hot({"country": np.array([notes.get(user)], dtype=object)}),
            dwell_ms=np.array([*(np.nan if r["dwell_ms"] is None else r["dwell_ms"] for r in mine), np.nan]),
            step=number - 1,
        )
        states[user] = policy.normaliser(raw_states(STATE, history))[-1]
    return states


commands = st.lists(
    st.tuples(
        st.sampled_from(
            ["recommend", "feedback", "late", "own", "unknown", "again", "restart", "kill", "back", "features"]
        ),
        st.integers(0, 4),
        st.sampled_from([0, 1, 500, HOUR, 30 * HOUR]),
        st.floats(0, 9, width=32),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=40)
@given(commands, st.booleans())
def test_states_are_those_of_the_log_whatever_comes_and_however_it_ends(
    restless_bundle: Path,
    paged_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
    commands: list[Any],
    paged: bool,
) -> None:
    bundle = paged_bundle if paged else restless_bundle
    folder = tmp_path_factory.mktemp("state")
    desk, clock = Desk(bundle, folder, feedback_hours=24 * 365), NOW
    open_events: list[dict[str, Any]] = []
    counted: set[tuple[str, Any]] = set()
    for what, user, pause, value in commands:
        clock += pause
        if what in ("restart", "kill"):
            desk.stop(save=what == "restart")
            desk = Desk(bundle, folder, feedback_hours=24 * 365)
        elif what in ("recommend", "back", "features"):
            client_time = clock - 10 * HOUR if what == "back" else None
            features = {"country": "fr"} if what == "features" else None
            body = Recommend(user=user, k=2, timestamp=client_time, features=features)
            open_events.append(desk.one(body, clock))
        elif what in ("own", "unknown"):
            item = 3 if what == "own" else 10**6
            body = Feedback(event_id=f"own {len(counted)}", user=user, item=item, feedback={"watch": value})
            desk.one(body, clock)
            counted.add((body.event_id, item))
        elif open_events:
            event = open_events[0 if what == "late" else -1]
            item = event["items"][int(value) % 2]
            body = Feedback(event_id=event["event_id"], item=item, feedback={"watch": value}, dwell_ms=1000 * value)
            status = [answer.body["status"] for answer in desk.do(body, body, clock=clock)]
            new = (event["event_id"], item) not in counted
            assert status == ["counted" if new else "known", "known"]
            counted.add((event["event_id"], item))
    logged_feedback = [(row["event_id"], row["items"][0]) for row in rows_of(desk) if row["kind"] == Kind.FEEDBACK]
    assert sorted(logged_feedback, key=str) == sorted(counted, key=str)
    states, expected = desk.states(clock + 400 * HOUR), plain_states(desk, clock + 400 * HOUR)
    assert states.keys() == expected.keys()
    for user, state in states.items():
        assert state.tobytes() == expected[user].tobytes()
    desk.stop()


def test_feedback_that_is_too_late_is_refused_also_after_a_restart(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path, feedback_hours=1)
    old = desk.one(Recommend(user=1, k=3), NOW)
    for minute in range(1, 90):
        desk.one(Recommend(user=2, k=1), NOW + 60_000 * minute)
        if minute == 50:
            body = Feedback(event_id=old["event_id"], item=old["items"][0], feedback={})
            assert desk.one(body, NOW + 60_000 * minute)["status"] == "counted"
    for save in (False, True, False):
        for again in (True, False):
            body = Feedback(event_id=old["event_id"], item=old["items"][again], feedback={})
            with pytest.raises(Problem, match="more than 1 hours old") as caught:
                desk.one(body, NOW + 90 * 60_000)
            assert caught.value.status == 410
        desk.stop(save)
        desk = Desk(bundle, tmp_path, feedback_hours=1)


def test_a_recommendation_is_found_on_the_disk_too(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    shown = desk.one(Recommend(user=1, k=3))
    desk.stop()
    desk = Desk(bundle, tmp_path)
    desk.one(Feedback(event_id=shown["event_id"], item=shown["items"][2], feedback={"like": 1.0}))
    row = rows_of(desk)[-1]
    assert row["propensities"] == [shown["propensities"][2]]
    assert (row["position"], row["user_number"], row["arm"], row["policy"]) == (2, 1, "main", shown["policy"])


def test_an_id_of_the_clients_own_counts_once_for_each_user_and_item(restless_bundle: Path, tmp_path: Path) -> None:
    """A page of several items has one id, and two clients may choose the same one: nothing of it is lost."""
    desk = Desk(restless_bundle, tmp_path)
    of = [Feedback(event_id="page 7", user=user, item=item, feedback={}) for user, item in ((1, 3), (1, 4), (2, 3))]
    unknown = Feedback(event_id="page 7", user=1, item=10**6, feedback={})
    for save, new in ((False, True), (False, False), (True, False)):
        answers = [answer.body["status"] for answer in desk.do(*of, unknown, of[0], unknown)]
        assert answers == ["counted" if new else "known"] * 4 + ["known"] * 2
        assert [desk.one(body)["status"] for body in (*of, unknown)] == ["known"] * 4
        desk.stop(save)
        desk = Desk(restless_bundle, tmp_path)
    assert desk.opened.notes == []
    counted = [(row["event_id"], row["user_number"], row["items"]) for row in rows_of(desk)]
    assert counted == [("page 7", 1, [3]), ("page 7", 1, [4]), ("page 7", 2, [3]), ("page 7", 1, [10**6])]


def test_recommended_items_and_impressions_of_other_sources_rest(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    desk.one(Recommend(user=1, k=30))
    page = desk.one(Recommend(user=1, k=9))["items"]
    own = next(item for item in range(40) if item not in page)
    desk.one(Feedback(event_id="own", user=2, item=own, feedback={}))
    for save in (False, True):
        desk.stop(save)
        desk = Desk(bundle, tmp_path)
        resting = [len(desk.engine.state.users.resting(row, NOW, np.inf)) for row in range(2)]
        assert resting == [39, 1]


def test_items_come_again_after_the_rest_of_the_policy(tmp_path: Path) -> None:
    make_policy(serving=ServingSettings(rest_days=2.0)).save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    first = desk.one(Recommend(user=1, k=30), NOW)
    assert "short" not in first
    second = desk.one(Recommend(user=1, k=30), NOW + 24 * HOUR)
    assert (len(second["items"]), second["short"]) == (10, 20)
    assert not set(first["items"]) & set(second["items"])
    assert desk.one(Recommend(user=1, k=2), NOW + 47 * HOUR)["short"] == 2
    for save in (False, True):  # from the log, and from a snapshot
        desk.stop(save)
        desk = Desk(tmp_path / "policy", tmp_path / "state")
        row, users = desk.engine.state.users.find(1), desk.engine.state.users
        assert len(users.resting(row, NOW + 47 * HOUR, 48 * HOUR)) == 40
        assert sorted(users.resting(row, NOW + 48 * HOUR, 48 * HOUR)) == sorted(second["items"])
    third = desk.one(Recommend(user=1, k=40), NOW + 48 * HOUR)
    assert sorted(third["items"]) == sorted(first["items"])
    assert third["short"] == 10


def test_the_times_of_a_user_do_not_grow_with_the_number_of_impressions() -> None:
    users = ServedUsers(ServeSettings())
    users.add([5])
    for step in range(1_000):
        users.see(0, [step % 50, step % 3], NOW + 1_000 * step)
    assert users.freeze().sliced(at_once)["lengths"].whole().tolist() <= [128]
    latest = {code: max(s for s in range(1_000) if code in (s % 50, s % 3)) for code in range(50)}
    for rest in (5_001, 20_001):
        resting = set(users.resting(0, NOW + 999_000, rest).tolist())
        assert resting == {code for code, step in latest.items() if 1_000 * (999 - step) < rest}


@pytest.mark.parametrize("items", [40, 700])
def test_items_are_given_as_often_as_the_log_says(tmp_path: Path, items: int) -> None:
    """Propensities in the log against frequencies, with items that the user has seen and others that are excluded."""
    make_policy(items=items, serving=ServingSettings(temperature=2.0)).save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    for item in range(0, 20, 2):
        desk.one(Feedback(event_id=f"{item}", user=1, item=item, feedback={"like": 1.0}))
    body = Recommend(user=1, k=1, exclude=list(range(30, items - 10)), timestamp=NOW)
    counts: dict[int, int] = {}
    chance: dict[int, float] = {}
    turns = 200
    for _ in range(turns):
        plan = desk.engine.plan([body] * 32, NOW)  # not written: the state stays as it is
        for event in plan.events:
            (item,), (propensity,) = event.items or (), event.propensities or ()
            counts[item] = counts.get(item, 0) + 1
            # Scores are float32: equal rows of one matrix product may differ in their last bits.
            assert chance.setdefault(item, propensity) == pytest.approx(propensity, rel=2e-5)
    assert sum(chance.values()) == pytest.approx(1, abs=1e-6)
    assert not set(range(0, 20, 2)) & set(counts)
    drawn = np.array([counts[item] for item in chance])
    expected = np.array(list(chance.values()))
    assert chisquare(drawn, expected / expected.sum() * turns * 32).pvalue > 0.01


def test_a_full_disk_takes_nothing_in_and_goes_on(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(bundle, tmp_path)
    shown = desk.one(Recommend(user=1, k=3, features={"country": "de"}))
    before = desk.states(NOW)[1]

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    body = Feedback(event_id=shown["event_id"], item=shown["items"][0], feedback={"like": 1.0})
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        plan = desk.engine.plan([body, Recommend(user=1, k=1, features={"country": "fr"})], NOW)
        with pytest.raises(OSError, match="No space"):
            desk.engine.log.commit(plan.events)
        desk.engine.give_up(plan)
    assert desk.states(NOW)[1].tobytes() == before.tobytes()
    assert desk.one(body)["status"] == "counted"
    desk.stop()
    assert len(rows_of(Desk(bundle, tmp_path))) == 2


def test_new_items_are_remembered_and_those_withdrawn_are_not_shown(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    item = PutItem(id=77, embedding=[0.5, 0.5, 0.5])
    desk.engine.log.commit([Event(Kind.ITEM, NOW, items=[item.id], embedding=item.embedding)])
    desk.engine.log.commit([Event(Kind.WITHDRAWN, NOW, items=[n]) for n in range(30)])
    for save in (False, True, False):
        desk.stop()
        desk = Desk(bundle, tmp_path)
        shown = desk.one(Recommend(user=int(save), k=40, exclude=[]))["items"]
        desk.stop(save)
        desk = Desk(bundle, tmp_path)
        assert set(shown) <= {77, *range(30, 40)}
    assert 77 in storage_ids(tmp_path)


@pytest.mark.parametrize("candidates", ["catalogue", "nearest"])
def test_when_all_items_are_withdrawn_answers_are_empty(tmp_path: Path, candidates: str) -> None:
    policy = make_policy(serving=ServingSettings(candidates=candidates))
    policy.save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    assert len(desk.one(Recommend(user=0, k=5))["items"]) == 5
    desk.engine.log.commit([Event(Kind.WITHDRAWN, NOW, items=[n]) for n in range(40)])
    desk.engine.state.withdraw_items(range(40))  # at once, and after a new start
    assert desk.one(Recommend(user=1, k=5))["items"] == []
    desk.stop()
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    assert desk.one(Recommend(user=1, k=5))["items"] == []


def storage_ids(folder: Path) -> set[int]:
    return set(ItemTable.load(str(folder / "items.parquet")).ids.tolist())


def test_another_policy_with_other_states_reads_the_whole_log(bundle: Path, tmp_path: Path) -> None:
    """States of the new policy's own definition, as if it had served from the start."""
    desk = Desk(bundle, tmp_path / "state")
    for user in (1, 2, 1, 1):
        shown = desk.one(Recommend(user=user, k=1))
        desk.one(Feedback(event_id=shown["event_id"], feedback={"watch": 0.5}))
    desk.stop(save=True)
    other = changed(STATE, feedback_half_lives=(0, 3))
    make_policy(seed=3, state=other).save(str(tmp_path / "other"))
    desk = Desk(tmp_path / "other", tmp_path / "state")
    assert "other states; the whole log is read" in desk.opened.notes[0]
    tracker = make_policy(seed=3, state=other).tracker(1)
    for row in rows_of(desk):
        if row["kind"] == Kind.FEEDBACK and row["user_number"] == 1:
            values = {"like": np.array([0.0]), "watch": np.array([0.5])}
            tracker.observe(np.array([row["timestamp"]]), np.array(row["items"]), values)
    assert desk.states(NOW)[1].tobytes() == tracker.states(np.array([NOW]))[0].tobytes()
    assert isinstance(desk.engine.state, ServedState)


def test_text_ids(tmp_path: Path) -> None:
    make_policy(text=True, serving=ServingSettings(rule="best", candidates="nearest", count=4)).save(
        str(tmp_path / "p")
    )
    desk = Desk(tmp_path / "p", tmp_path / "state")
    shown = desk.one(Recommend(user="anna", k=3, exclude=["item 3", 7]))
    assert all(item.startswith("item ") for item in shown["items"])
    desk.one(Feedback(event_id=shown["event_id"], item=shown["items"][0], feedback={"like": 1.0}))
    with pytest.raises(Problem, match="expected text"):
        desk.one(Recommend(user=5, k=3))
    before = desk.states(NOW)["anna"]
    desk.stop(save=True)
    desk = Desk(tmp_path / "p", tmp_path / "state")
    assert desk.states(NOW)["anna"].tobytes() == before.tobytes()
    assert not set(desk.one(Recommend(user="anna", k=3))["items"]) & set(shown["items"])
