"""Arms: permanent assignment of users, and comparison by intervals that hold at every look."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from platform_desk import Desk, make_policy

from prefrec_ray.cli.main import run
from prefrec_ray.errors import UserError
from prefrec_ray.guard_rails import guard_rails
from prefrec_ray.logs.events.format import About, Event, Kind, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.serving.experiment.compare import DAY_MS, ComparedOutcome, Comparison, compare
from prefrec_ray.serving.experiment.history import read_events
from prefrec_ray.serving.folder.opened import arms_event
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.serving.settings import Arm, ServeSettings
from prefrec_ray.serving.state.users import arm_of
from prefrec_ray.settings import parse

NOW = 1_700_000_000_000


def arms(**shares: float) -> tuple[Arm, ...]:
    return tuple(Arm(name=name, policy="nowhere", share=share) for name, share in shares.items())


def test_users_are_dealt_by_a_hash_for_good() -> None:
    users = list(range(100_000))
    few, many = ServeSettings(canaries=arms(a=0.1)), ServeSettings(canaries=arms(a=0.25, b=0.5))
    dealt = arm_of(users, many)
    np.testing.assert_allclose(np.bincount(dealt) / len(users), [0.25, 0.25, 0.5], atol=0.01)
    assert (dealt[arm_of(users, few) == 1] == 1).all()  # who had the canary keeps it
    assert arm_of(users[7:9], many).tolist() == dealt[7:9].tolist()
    other = arm_of(users, many.model_copy(update={"seed": 1}))
    assert np.mean(other == dealt) == pytest.approx(0.375, abs=0.01)
    assert arm_of([str(user) for user in users[:9]], many).tolist() != dealt[:9].tolist()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"canaries": [{"name": "main", "policy": "p", "share": 0.1}]}, "name twice, or main; expected another"),
        ({"canaries": [{"name": n, "policy": "p", "share": 0.6} for n in "ab"]}, "in total; expected at most 1"),
        ({"canaries": [{"name": "a b", "policy": "p", "share": 0.6}]}, "canaries.0.name"),
        ({"leave_out": "nothing"}, "unknown key"),
    ],
)
def test_wrong_settings_are_one_line(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(ServeSettings, settings, "serve")


def test_a_canary_serves_its_share_of_the_users(tmp_path: Path) -> None:
    for name, seed in (("main", 0), ("a", 1)):
        make_policy(seed=seed).save(str(tmp_path / name))
    arm_settings = {
        "canaries": [{"name": "a", "policy": str(tmp_path / "a"), "share": 0.5}],
    }
    desk = Desk(tmp_path / "main", tmp_path / "state", **arm_settings)
    digests = {one.arm: one.digest for one in desk.engine.state.loaded}
    answers = [desk.one(Recommend(user=user, k=3)) for user in range(60)]
    dealt = arm_of(list(range(60)), desk.engine.state.settings)
    assert [answer["arm"] for answer in answers] == [("main", "a")[arm] for arm in dealt]
    assert all(answer["policy"] == digests[answer["arm"]] for answer in answers)


def simulated(state: Path, *gains: float, users: int = 1_000) -> Path:
    """Write a log in which users of a canary (`a`, then `b`) have sessions that are longer by `gains` on average."""
    state.mkdir()
    about = {"item_ids": "int64", "feedback": ("like",), "feedback_kinds": {}, "user_features": {}}
    write_about(str(state), About(log_id="0123abcd", session_gap_ms=30 * 60_000, **about))
    log, rng = EventLog(str(state), pa.int64()), np.random.default_rng(5)
    for phase, gain in enumerate((0.0, *gains)):
        canary = "ab"[phase - 1]
        settings = ServeSettings(canaries=arms(**{canary: 0.5}) if phase else ())
        shares = {"main": 0.5, canary: 0.5} if phase else {"main": 1.0}
        described = [{"arm": arm, "policy": f"policy {arm}", "share": share} for arm, share in shares.items()]
        note = {"main": "main", "seed": 0, "feedback_hours": 6, "arms": described}
        log.commit([Event(Kind.ARMS, NOW + phase * 10 * DAY_MS, note=json.dumps(note))])
        clock = NOW + phase * 10 * DAY_MS + rng.integers(0, DAY_MS, users)
        dealt = arm_of(list(range(users)), settings)
        for _ in range(3):
            depth = 2 + rng.poisson(1 + gain * (dealt == 1))
            for step in range(depth.max()):
                events = []
                for user in np.flatnonzero(depth > step).tolist():
                    arm = ("main", canary)[dealt[user]]
                    shown = {"user_number": user, "arm": arm, "policy": f"policy {arm}", "items": [1]}
                    times = {"timestamp": int(clock[user] + 1000 * step), "received": int(clock.max() + 1000 * step)}
                    events.append(Event(Kind.RECOMMENDED, **shown, **times))
                    events.append(Event(Kind.FEEDBACK, **shown, **times, feedback=[1.0], known=True))
                log.commit(events)
            clock += DAY_MS + rng.integers(0, DAY_MS // 4, users)
    log.close()
    return state


def plain_outcomes(state: Path, days: float) -> dict[str, dict[str, list[float]]]:
    """Outcomes of each user, by arm and name, computed row by row."""
    log = EventLog(str(state), pa.int64())
    rows = [row for table in log.tables() for row in table.to_pylist()]
    log.close()
    since = [row["number"] for row in rows if row["kind"] == Kind.ARMS][-1]
    until = max(row["timestamp"] for row in rows if row["user_number"] is not None) - 6 * 3_600_000
    outcomes: dict[str, dict[str, list[float]]] = {}
    by_user: dict[int, list[dict]] = {}
    for row in rows:
        if row["kind"] == Kind.FEEDBACK:
            by_user.setdefault(row["user_number"], []).append(row)
    begins = {user: min(row["timestamp"] for row in mine if row["number"] >= since) for user, mine in by_user.items()}
    for user in sorted(by_user, key=begins.__getitem__):
        end = begins[user] + days * DAY_MS
        if end >= until:
            continue
        sessions: list[list[dict]] = []
        for row in by_user[user]:
            if row["timestamp"] >= end:
                break
            if not sessions or row["timestamp"] - sessions[-1][-1]["timestamp"] > 30 * 60_000:
                sessions.append([])
            sessions[-1].append(row)
        before = [session for session in sessions if session[0]["number"] < since]
        after = sessions[len(before) :]
        starts = [session[0]["timestamp"] for session in sessions[1:]]
        pauses = [start - session[-1]["timestamp"] for session, start in zip(sessions, starts, strict=False)]
        own_depth = sum(map(len, before)) / len(before)
        own_pause = np.mean(pauses[: len(before)])
        of_after = pauses[len(before) :]
        of_after.append(max(end - after[-1][-1]["timestamp"], own_pause))
        values = {
            "depth level": np.mean([min(5, np.floor(len(session) / own_depth)) for session in after]),
            "frequency level": np.mean([min(5, np.floor(own_pause / pause)) for pause in of_after]),
            "depth": np.mean([len(session) for session in after]),
            "sessions a day": len(after) / days,
            "requests a day": sum(len(session) for session in after) / days,
            "feedback.like": np.mean([row["feedback"][0] for session in after for row in session]),
        }
        of_arm = outcomes.setdefault(after[0][0]["arm"], {name: [] for name in values})
        for name, value in values.items():
            of_arm[name].append(float(value))
    for name in ("depth", "sessions a day", "requests a day", "feedback.like"):
        largest = np.quantile(outcomes["main"][name][:100], 0.99)
        for of_arm in outcomes.values():
            of_arm[name] = np.minimum(of_arm[name], largest).tolist()
    return outcomes


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("simulated") / "state", 2.0)


def rows_of(comparison: Comparison, canary: str) -> dict[str, ComparedOutcome]:
    return {row.name: row for row in comparison.canaries[canary].outcomes}


def test_compare_tells_a_better_arm_apart(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compare([str(state)], days=2.0)
    rows = rows_of(comparison, "a")
    assert sum(comparison.canaries["a"].users.values()) == 1_000
    assert rows["depth"].difference.verdict == "more"
    assert rows["depth"].difference.value == pytest.approx(1.8, abs=0.3)
    assert rows["depth level"].difference.verdict == "more"
    assert rows["hours to return"].difference.verdict == "not told apart"
    assert rows["sessions a day"].main.value == pytest.approx(1.0, abs=0.1)
    for arm, outcomes in plain_outcomes(state, 2.0).items():
        for name, values in outcomes.items():
            estimate = rows[name].main if arm == "main" else rows[name].canary
            assert estimate.value == pytest.approx(np.mean(values), rel=1e-9), (arm, name)
            assert estimate.users == len(values)
    assert run(["compare", str(state), "--days", "2", "--output", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    assert "more" in out
    written = json.loads((tmp_path / "out.json").read_text())
    depth = next(row for row in written["canaries"]["a"]["outcomes"] if row["name"] == "depth")
    assert depth["difference"]["value"] == rows["depth"].difference.value
    assert written["canaries"]["a"]["users"] == comparison.canaries["a"].users


def test_compare_shows_and_stores_the_guard_rails_of_a_loop(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kinds of items are from the policy of the canary, here in `serve.canaries`."""
    policy = make_policy(items=3)
    policy.save(str(tmp_path / "policy"))
    rails = ["depth >= -5 %", "feedback.like >= -2 %", "exposure[cluster] <= 40 %"]
    canaries = [{"name": "a", "policy": str(tmp_path / "policy"), "share": 0.5}]
    sections = {
        "train": {"task": "depth"},
        "evaluate": {"guard_rails": rails},
        "serve": {"canaries": canaries},
        "loop": {"folder": "none"},
    }
    sections["loop"]["canary"] = {"days": 2}
    config, output = tmp_path / "loop.yaml", tmp_path / "out.json"
    config.write_text(json.dumps(sections))
    assert run(["compare", str(state), "--config", str(config), "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = json.loads(output.read_text())
    assert written["days"] == 2.0
    expected = compare([str(state)], 2.0, "depth", guard_rails(rails), items_of=lambda arm: policy.items)
    assert written == expected.to_dict()
    found = written["canaries"]["a"]["rails"]
    expected = {"came_back >= -5 %": "kept"} | dict(zip(rails, ["kept", "kept", "broken"], strict=True))
    assert {one["rail"]: one["status"] for one in found} == expected
    assert [line for line in lines if line.startswith("a: ")] == [
        "a: came_back >= -5 %: kept",
        "a: depth >= -5 %: kept",
        "a: feedback.like >= -2 %: kept",
        "a: exposure[cluster] <= 40 %: broken",
    ]
    config.write_text(json.dumps({"evaluate": {"guard_rails": rails}}))
    assert run(["compare", str(state), "--config", str(config)]) == 2
    assert "'exposure[cluster] <= 40 %': found no table of items" in capsys.readouterr().err


def test_a_log_without_columns_of_feedback_is_compared(tmp_path: Path) -> None:
    make_policy(state=StateDefinition(feedback=(), user_features={}, action_dim=3)).save(str(tmp_path / "policy"))
    canaries = [{"name": "a", "policy": str(tmp_path / "policy"), "share": 0.5}]
    desk = Desk(tmp_path / "policy", tmp_path / "state", canaries=canaries)
    desk.engine.log.commit([arms_event(desk.engine.state, NOW)])
    desk.engine.state.advance(1, NOW)
    for user in range(4):
        event = desk.one(Recommend(user=user, k=1))["event_id"]
        desk.one(Feedback(event_id=event, feedback={}))
    desk.stop()
    assert compare([str(tmp_path / "state")], 2.0).waiting == 4


def test_what_an_earlier_canary_did_to_the_same_users_is_no_matter(tmp_path: Path) -> None:
    state = simulated(tmp_path / "state", 3.0, 0.0)
    comparison = compare([str(state)], days=2.0)
    assert set(comparison.canaries["b"].users) == {"main", "b"}
    for name in ("depth level", "frequency level", "depth"):
        assert rows_of(comparison, "b")[name].difference.verdict == "not told apart", name


def test_what_is_told_of_the_future_is_not_known_yet(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), pa.int64())
    times = ((NOW, NOW + 5), (NOW + 9, None), (4_000_000_000_000, NOW + 8), (NOW + 7, NOW + 9))
    row = {"user_number": 1, "items": [1], "known": True, "feedback": [0.0]}
    log.commit([Event(Kind.FEEDBACK, timestamp, received=received, **row) for timestamp, received in times])
    about = About(
        log_id="0123abcd",
        item_ids="int64",
        feedback=("like",),
        feedback_kinds={},
        user_features={},
        session_gap_ms=30 * 60_000,
    )
    assert read_events([str(tmp_path)], about).until == NOW + 9
    log.commit([Event(Kind.FEEDBACK, 4_000_000_000_000, received=NOW + 20, **row)])
    assert read_events([str(tmp_path)], about).until == NOW + 20


def test_the_logs_of_several_servers_are_compared_as_one(state: Path, tmp_path: Path) -> None:
    rows = [row for table in EventLog(str(state), pa.int64()).tables() for row in table.to_pylist()]
    parts = [tmp_path / "part0", tmp_path / "part1"]
    for number, part in enumerate(parts):  # by user; the second began later, with a new assignment at another row
        part.mkdir()
        shutil.copy(state / "log.json", part)
        log = EventLog(str(part), pa.int64())
        log.commit([Event(Kind.WITHDRAWN, NOW, items=[1])] * (1 + 5 * number))
        mine = [row for row in rows if row["kind"] == Kind.ARMS or row["user_number"] % 2 == number]
        for begin in range(0, len(mine), 256):
            of_batch = mine[begin : begin + 256]
            log.commit([Event(**{name: row[name] for name in row if name != "number"}) for row in of_batch])
        log.close()
    one, both = compare([str(state)], days=2.0), compare([str(part) for part in parts], days=2.0)
    assert one == both
    note = json.dumps({"main": "main", "seed": 0, "feedback_hours": 6, "arms": [{"arm": "main", "share": 1.0}]})
    EventLog(str(parts[1]), pa.int64()).commit([Event(Kind.ARMS, NOW, note=note)])
    with pytest.raises(UserError, match=r"part1: found arms .*; expected .* as in "):
        compare([str(part) for part in parts])


def test_what_cannot_be_compared_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(tmp_path)]) == 2
    assert "no folder of events" in capsys.readouterr().err
    make_policy().save(str(tmp_path / "main"))
    desk = Desk(tmp_path / "main", tmp_path / "state")
    # A log without rows: the server was killed before it wrote one.
    assert not compare([str(tmp_path / "state")]).canaries
    desk.engine.log.commit([arms_event(desk.engine.state, NOW)])
    assert run(["compare", str(tmp_path / "state")]) == 2
    assert "found no canary; expected canaries" in capsys.readouterr().err


def test_without_users_every_guard_rail_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy().save(str(tmp_path / "main"))
    canaries = [{"name": "a", "policy": str(tmp_path / "main"), "share": 0.5}]
    desk = Desk(tmp_path / "main", tmp_path / "state", canaries=canaries)
    desk.engine.log.commit([arms_event(desk.engine.state, NOW)])
    assert run(["compare", str(tmp_path / "state"), "--output", str(tmp_path / "out.json")]) == 0
    assert "no users yet" in capsys.readouterr().out
    outcomes = json.loads((tmp_path / "out.json").read_text())["canaries"]["a"]["outcomes"]
    assert {row["canary"]["value"] for row in outcomes} == {None}
    rails = guard_rails(
        [
            "feedback.like >= -2 %",
            "depth >= -5 %",
            "sessions >= -5 %",
            "hours_to_return <= +10 %",
            "exposure[cluster] <= 40 %",
            "share[cluster: 0] >= 5 %",
        ]
    )
    items = make_policy().items
    for _ in range(2):
        comparison = compare([str(tmp_path / "state")], rails=rails, items_of=lambda arm: items).canaries["a"]
        assert [one.status for one in comparison.rails] == ["open"] * 7
        assert comparison.users == {"main": 0, "a": 0}
        assert (comparison.objective.low, comparison.objective.high) == (-5, 5)
        desk.engine.state.next += 1
        desk.one(Recommend(user=1))
    assert comparison.waiting == 1
