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
from prefrec_ray.logs.events.format import About, Event, Kind, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.experiment.compare import DAY_MS, FIRST, compare, effects, half_widths, mean_sequence
from prefrec_ray.serving.experiment.history import read_events
from prefrec_ray.serving.folder.opened import arms_event
from prefrec_ray.serving.requests.bodies import Recommend
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
        ({"leave_out": "all"}, "leave_out"),
    ],
)
def test_wrong_settings_are_one_line(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(ServeSettings, settings, "serve")


def test_intervals_hold_at_all_times_at_once() -> None:
    """At most 5 % (plus noise) of 400 runs of skewed numbers ever leave the interval."""
    rng, truth = np.random.default_rng(0), 1.0
    missed = 0
    for _ in range(400):
        mean, half = mean_sequence(rng.exponential(truth, 3_000))
        missed += bool((np.abs(mean - truth) > half)[FIRST:].any())
    assert missed < 400 * 0.075
    # A fixed-time interval would miss at some time in most runs.
    naive = 0
    for _ in range(100):
        values = rng.exponential(truth, 3_000)
        n = np.arange(1, 3_001)
        mean = np.cumsum(values) / n
        naive += bool((np.abs(mean - truth) > 1.96 * values.std() / np.sqrt(n))[FIRST:].any())
    assert naive > 30


def test_a_small_canary_of_rare_outcomes_is_seldom_told_apart_from_its_equal() -> None:
    """With looks from 50 users on, 17 % of trials found a difference."""
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(150):
        treated = rng.random(12_000) < 0.05
        values = effects(np.where(rng.random(12_000) < 0.05, 5.0, 0.0), treated, np.full(12_000, 0.05))
        mean, half = mean_sequence(values)
        alarms += bool(((np.abs(mean) > half) & (np.cumsum(treated) >= FIRST)).any())
    assert alarms <= 12


def test_half_widths_are_the_closed_form() -> None:
    n = np.array([10.0, 1_000.0])
    rho = (-2 * np.log(0.05) + np.log(1 - 2 * np.log(0.05))) / 1_000
    expected = [3.0 * np.sqrt(2 * (t * rho + 1) / (t**2 * rho) * np.log(np.sqrt(t * rho + 1) / 0.05)) for t in n]
    np.testing.assert_allclose(half_widths(np.full(2, 3.0), n), expected)


def test_effects_are_unbiased_and_tell_arms_apart_only_where_they_differ() -> None:
    rng = np.random.default_rng(1)
    alarms = detections = 0
    for _ in range(150):
        treated = rng.random(3_000) < 0.2
        plain = rng.exponential(1.0, 3_000) + 5
        for gain in (0.0, 0.3):
            values = effects(plain + gain * treated, treated, np.full(3_000, 0.2))
            mean, half = mean_sequence(values)
            apart = (np.abs(mean) > half)[FIRST:]
            alarms += bool(gain == 0 and apart.any())
            detections += bool(gain > 0 and apart[-1])
    assert alarms <= 12
    assert detections > 100


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
        log.commit([Event(Kind.ARMS, NOW, note=json.dumps({"main": "main", "seed": 0, "arms": described}))])
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
    until = max(row["timestamp"] for row in rows if row["user_number"] is not None) - 30 * 60_000
    outcomes: dict[str, dict[str, list[float]]] = {}
    by_user: dict[int, list[dict]] = {}
    for row in rows:
        if row["kind"] == Kind.FEEDBACK:
            by_user.setdefault(row["user_number"], []).append(row)
    for mine in by_user.values():
        sessions: list[list[dict]] = []
        for row in mine:
            if not sessions or row["timestamp"] - sessions[-1][-1]["timestamp"] > 30 * 60_000:
                sessions.append([])
            sessions[-1].append(row)
        before = [session for session in sessions if session[0]["number"] < since]
        after = [session for session in sessions if session[0]["number"] >= since]
        end = after[0][0]["timestamp"] + days * DAY_MS
        if end > until:
            continue
        starts = [session[0]["timestamp"] for session in sessions] + [10**18]
        pauses = [max(b - s[-1]["timestamp"], 1) for s, b in zip(sessions, starts[1:], strict=True)]
        own = [pause for pause, session in zip(pauses, sessions, strict=True) if session in before and pause < 10**15]
        counted = [(s, p) for s, p in zip(sessions, pauses, strict=True) if s in after and s[0]["timestamp"] < end]
        pauses = [min(p, max(end - s[-1]["timestamp"], 1)) for s, p in counted]
        own_depth = sum(map(len, before)) / len(before)
        values = {
            "depth level": np.mean([min(5, np.floor(len(s) / own_depth)) for s, _ in counted]),
            "frequency level": np.mean([min(5, np.floor(np.mean(own) / p)) for p in pauses]),
            "depth": np.mean([len(s) for s, _ in counted]),
            "sessions a day": len(counted) / days,
            "hours to return": np.mean(pauses) / 3_600_000,
            "requests a day": sum(len(s) for s, _ in counted) / days,
        }
        of_arm = outcomes.setdefault(after[0][0]["arm"], {name: [] for name in values})
        for name, value in values.items():
            of_arm[name].append(float(value))
    return outcomes


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("simulated") / "state", 2.0)


def test_compare_tells_a_better_arm_apart(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compare([str(state)], days=2.0)
    assert sum(comparison.users.values()) == 1_000
    assert comparison.differences["depth"]["a"] is not None
    assert comparison.differences["depth"]["a"].verdict == "more"
    assert comparison.differences["depth"]["a"].value == pytest.approx(2.0, abs=0.4)
    assert comparison.differences["depth level"]["a"].verdict == "more"
    assert comparison.differences["hours to return"]["a"].verdict == "not told apart"
    assert comparison.means["sessions a day"]["main"].value == pytest.approx(1.0, abs=0.1)
    for arm, outcomes in plain_outcomes(state, 2.0).items():
        for name, values in outcomes.items():
            assert comparison.means[name][arm].value == pytest.approx(np.mean(values), rel=1e-9), (arm, name)
            assert comparison.means[name][arm].users == len(values)
    assert run(["compare", str(state), "--days", "2", "--output", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    assert "more" in out
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["differences"]["depth"]["a"]["value"] == comparison.differences["depth"]["a"].value
    assert len(written["policies"]["a"]) == 1


def test_what_an_earlier_canary_did_to_the_same_users_is_no_matter(tmp_path: Path) -> None:
    state = simulated(tmp_path / "state", 3.0, 0.0)
    comparison = compare([str(state)], days=2.0)
    assert set(comparison.policies) == {"main", "b"}
    for name in ("depth level", "frequency level", "depth"):
        assert comparison.differences[name]["b"].verdict == "not told apart", name


def test_what_is_told_of_the_future_is_not_known_yet(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), pa.int64())
    times = ((NOW, NOW + 5), (NOW + 9, None), (4_000_000_000_000, NOW + 8), (NOW + 7, NOW + 9))
    row = {"user_number": 1, "items": [1], "known": True}
    log.commit([Event(Kind.FEEDBACK, timestamp, received=received, **row) for timestamp, received in times])
    assert read_events([str(tmp_path)], log.schema).until == NOW + 9
    log.commit([Event(Kind.FEEDBACK, 4_000_000_000_000, received=NOW + 20, **row)])
    assert read_events([str(tmp_path)], log.schema).until == NOW + 20


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
    assert (one.users, one.waiting, one.policies) == (both.users, both.waiting, both.policies)
    for name, means in one.means.items():
        for arm, mean in means.items():
            mean_of_both = both.means[name][arm]
            assert (mean is None) == (mean_of_both is None)
            assert mean is None or mean_of_both.value == pytest.approx(mean.value, rel=1e-12)
    note = json.dumps({"main": "main", "seed": 0, "arms": [{"arm": "main", "share": 1.0, "shadow": False}]})
    EventLog(str(parts[1]), pa.int64()).commit([Event(Kind.ARMS, NOW, note=note)])
    with pytest.raises(UserError, match=r"part1: found arms .*; expected .* as in "):
        compare([str(part) for part in parts])


def test_what_cannot_be_compared_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(tmp_path)]) == 2
    assert "no folder of events" in capsys.readouterr().err
    make_policy().save(str(tmp_path / "main"))
    desk = Desk(tmp_path / "main", tmp_path / "state")
    desk.engine.log.commit([arms_event(desk.engine.state, NOW)])
    assert run(["compare", str(tmp_path / "state")]) == 2
    assert "no events yet" in capsys.readouterr().err
    desk.engine.state.next += 1
    desk.one(Recommend(user=1))
    assert run(["compare", str(tmp_path / "state")]) == 2
    assert "found one arm; expected canaries" in capsys.readouterr().err
