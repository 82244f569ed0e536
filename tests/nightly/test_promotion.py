"""Promotion and rollback: the current policy, and the report of a rollback."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest
from made_up_nights import Killed, Loop, save_policy, several

from prefrec_ray import storage
from prefrec_ray.cli.main import run as prefrec
from prefrec_ray.errors import UserError
from prefrec_ray.nightly.folder import LoopFolder


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"gain": 0.5}, "candidate"),
        ({"gain": 0.0}, "no_difference"),
        ({"gain": 0.05}, "inconclusive"),
        ({"gain": -0.5}, "do_not_ship"),
        ({"gain": 0.5, "states": 0.3}, "inconclusive"),
        ({"gain": 0.5, "top": 0.95}, "inconclusive"),  # it collapses: one item for nearly everybody
    ],
)
def test_only_a_candidate_is_promoted(loop: Loop, found: dict[str, float], verdict: str) -> None:
    loop.night()
    night = loop.night(**found)
    assert night.verdict == verdict
    assert night.status == ("promoted" if verdict == "candidate" else "kept")
    assert loop.current == (2 if verdict == "candidate" else 1)


def test_of_several_policies_of_a_night_the_one_with_the_best_verdict_is_promoted(loop: Loop) -> None:
    """The night's own policy lacks support; the other one is promoted, and a rollback returns to it."""
    loop.steps.log.append((1000, False))
    other = loop.path / "nights/0001/run/averaged"
    save_policy(other)
    loop.steps.result = several(str(other))
    night = loop.again()
    assert (night.verdict, night.status, night.policy) == ("candidate", "promoted", "run/averaged")
    assert loop.served == "nights/0001/run/averaged"
    loop.night()
    assert loop.current == 2
    loop.folder.back()
    assert loop.served == "nights/0001/run/averaged"


def test_a_policy_is_averaged_with_those_that_were_promoted_before_and_not_rolled_back(loop: Loop) -> None:
    averaged = []
    for gain in (0.5, 0.5, 0.0, 0.5, 0.5):
        loop.night(gain)
        averaged.append(loop.steps.before)
    assert averaged == [[], [1], [1, 2], [1, 2], [1, 2, 4]]
    loop.folder.back()
    loop.night()
    assert loop.steps.before == [1, 2, 4]
    loop.settings["average"] = 3
    loop.night()
    assert loop.steps.before == [4, 6]
    loop.settings["average"] = 1
    loop.night()
    assert loop.steps.before == []


def test_a_loop_may_judge_and_never_promote(loop: Loop) -> None:
    loop.settings["release"] = "none"
    night = loop.night()
    assert (night.verdict, night.status, loop.current) == ("candidate", "kept", None)


def test_rollback_reports_from_which_policy_to_which(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    for gain in (0.5, 0.4, 0.0, 0.3):
        loop.night(gain=gain)
    assert loop.promoted == (1, 2, 4)
    for before, after in ((4, 2), (2, 1)):
        assert prefrec(["rollback", str(loop.path)]) == 0
        assert f"rolled back: from night {before} to night {after}\n" in capsys.readouterr().out
        assert loop.served == f"nights/{after:04d}/run/policy"
    assert prefrec(["rollback", str(loop.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("/loop: nothing to roll back: current is the first policy (night 1)")
    loop.folder.promote(4)  # a night that was rolled back stays so
    assert loop.served == "nights/0001/run/policy"
    loop.night()
    assert loop.promoted == (1, 5)
    written = json.loads((loop.path / "current.json").read_text())
    assert written.pop("seal").startswith("seal:000000")
    assert written == {
        "target": "nights/0005/run/policy",
        "promoted": [1, 5],
        "rolled_back": [4, 2],
        "canary": None,
        "withdrawn": [],
    }


def test_a_rollback_without_a_policy_changes_nothing(loop: Loop) -> None:
    with pytest.raises(UserError, match=r"/loop: no such folder; expected the folder of a loop$"):
        loop.folder.back()
    assert not loop.path.exists()
    assert loop.night(gain=0.0).status == "kept"
    with pytest.raises(UserError, match=r"/loop: nothing to roll back: no policy was promoted$"):
        loop.folder.back()
    assert loop.served is None


def test_a_rollback_skips_policies_that_cannot_be_loaded(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(4):
        loop.night()
    (loop.path / "nights/0003/run/policy/actor.safetensors").write_bytes(b"damaged")
    shutil.rmtree(loop.path / "nights/0002/run/policy")
    assert prefrec(["rollback", str(loop.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("skipped night 3: its policy is damaged (")
    assert "nights/0003/run/policy/actor.safetensors" in lines[0]
    assert lines[1] == "skipped night 2: its policy was removed (loop.keep)"
    assert lines[2].endswith("rolled back: from night 4 to night 1")
    assert (loop.current, loop.promoted) == (1, (1,))


def test_a_rollback_that_fails_changes_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        loop.night()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("prefrec_ray.nightly.folder.point", full)
        with pytest.raises(OSError, match="No space left"):
            loop.folder.back()
    (loop.path / "nights/0001/run/policy/policy.json").write_text("{")
    with pytest.raises(UserError, match=r"/loop: nothing to roll back to: night 1: its policy is damaged \(.*not JSON"):
        loop.folder.back()
    assert (loop.current, loop.promoted) == (2, (1, 2))


def test_old_nights_go_and_the_current_one_and_the_one_before_stay(loop: Loop) -> None:
    loop.settings["keep"] = 1
    for gain in (0.5, 0.5, 0.5, 0.0, 0.0):
        loop.night(gain=gain)
    assert sorted(path.name for path in (loop.path / "nights").iterdir()) == ["0002", "0003", "0005"]
    assert len(loop.folder.nights()) == 5
    loop.folder.back()
    assert loop.current == 2
    with pytest.raises(UserError, match=r"nothing to roll back to: night 1: its policy was removed \(loop\.keep\)$"):
        loop.folder.back()
    assert loop.current == 2


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"promoted": [1]}', '{"target": "x", "promoted": [1, "two"]}'])
def test_a_damaged_record_ends_a_night_before_it_begins(loop: Loop, text: str) -> None:
    """Nothing is guessed: a policy that was rolled back must not come back."""
    loop.night()
    loop.steps.calls.clear()
    (loop.path / "current.json").write_text(text)
    with pytest.raises(UserError, match=r"/loop/current\.json: "):
        loop.night()
    assert loop.steps.calls == []
    assert loop.statuses() == ["promoted"]
    with pytest.raises(UserError, match=r"/loop/current\.json: "):
        loop.folder.back()


@pytest.mark.parametrize("change", ["settings", "release"])
def test_a_night_that_was_promoted_before_a_kill_stays_promoted(
    loop: Loop, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the YAML changed meanwhile: current.json decides."""
    loop.night()
    whole = LoopFolder.promote

    def killed(self: LoopFolder, night: int) -> None:
        whole(self, night)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(LoopFolder, "promote", killed)
        with pytest.raises(Killed):
            loop.night()
    if change == "release":
        loop.settings["release"] = "none"
    night = loop.again(digest="other" if change == "settings" else "same")
    assert (night.night, night.status, loop.promoted) == (2, "promoted", (1, 2))


def test_a_promotion_waits_for_a_rollback(loop: Loop) -> None:
    """The rollback loads policies for longer than a claim is waited for elsewhere."""
    loop.night()
    begun = threading.Event()

    def roll_back() -> None:
        with storage.claimed(loop.folder.current):
            begun.set()
            time.sleep(storage.claims.PATIENCE + 0.5)

    rollback = threading.Thread(target=roll_back)
    rollback.start()
    assert begun.wait(5)
    night = loop.night()
    rollback.join()
    assert (night.status, loop.promoted) == ("promoted", (1, 2))
