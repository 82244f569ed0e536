"""Nights with made-up steps: their files, kills, and refused nights."""

from __future__ import annotations

import json

import pytest
from made_up_nights import RANGES, STEPS, Killed, Loop

from prefrec_ray.errors import UserError
from prefrec_ray.nightly.check import Spans
from prefrec_ray.nightly.folder import LoopFolder, Night


def test_a_night_is_a_line(loop: Loop) -> None:
    loop.night()
    loop.night(gain=-0.5)
    lines = [json.loads(line) for line in (loop.path / "nights.json").read_text().splitlines()]
    assert [(line["night"], line["status"], round(line["gain"], 6)) for line in lines] == [
        (1, "promoted", 0.5),
        (2, "kept", -0.5),
    ]
    assert lines[1]["log"]["spans"] == [[1000, 1999]]
    assert [line.partition(";")[0] for line in loop.printed] == [
        "night 1: promoted, 1,000 new impressions of 100 users",
        "night 2: kept, 1,000 new impressions of 100 users",
    ]
    assert (loop.path / "nights/0002/report.html").exists()


def test_a_poisoned_night_is_refused_before_anything_is_made_of_it(loop: Loop) -> None:
    loop.night()
    loop.steps.calls.clear()
    with pytest.raises(UserError) as error:
        loop.night(broken=True)
    assert "night 2: refused" in str(error.value)
    assert "feedback 'click' is 0 in all 1,000 impressions" in str(error.value)
    assert "\n" not in str(error.value)
    assert loop.steps.calls == ["check"]
    assert loop.statuses() == ["promoted", "refused"]
    assert loop.current == 1


def test_what_was_refused_is_left_out_of_all_later_nights(loop: Loop) -> None:
    loop.night()
    with pytest.raises(UserError):
        loop.night(broken=True)
    night = loop.night()
    assert night.log is not None
    assert night.log.spans == ((2000, 2999),)
    assert loop.steps.without == ((1000, 1999), (3000, 999_999), RANGES[1])
    assert loop.current == 3


def test_a_source_that_cannot_leave_it_out_has_to_be_mended(loop: Loop) -> None:
    loop.steps.leaves_out = False
    loop.night()
    with pytest.raises(UserError, match="refused"):
        loop.night(broken=True)
    with pytest.raises(UserError, match="the impressions of the refused night 2 are still in the log"):
        loop.night()
    loop.steps.log[1] = (1000, False)
    assert loop.night().status == "promoted"


def test_a_refused_night_goes_on_once_it_is_accepted(loop: Loop) -> None:
    loop.night()
    loop.night()
    with pytest.raises(UserError, match="5,000 impressions, expected 333 to 3,000"):
        loop.night(requests=5000)
    loop.settings["accept"] = (3,)
    night = loop.again()
    assert (night.night, night.status) == (3, "promoted")
    assert loop.steps.without == ((7000, 999_999), RANGES[1])


def test_what_is_new_is_told_log_by_log(loop: Loop) -> None:
    loop.steps.second.append((600, False))
    loop.night()
    night = loop.night()  # nothing new in the second
    assert night.log is not None
    assert night.log.spans == ((1000, 1999),)
    assert loop.steps.without == ((2000, 999_999), (1_000_600, 1_999_999))
    loop.steps.second.append((400, True))
    with pytest.raises(UserError, match=r"feedback 'click' is 0 in all 1,400 impressions"):
        loop.night(broken=True)
    loop.steps.second.append((500, False))
    assert loop.night().status == "promoted"
    assert loop.steps.without == (
        (2000, 2999),
        (1_000_600, 1_000_999),
        (4000, 999_999),
        (1_001_500, 1_999_999),
    )


@pytest.mark.parametrize("step", STEPS)
def test_after_a_kill_a_night_goes_on_where_it_was(loop: Loop, step: str) -> None:
    loop.night()
    loop.steps.calls.clear()
    loop.steps.stop = step
    with pytest.raises(Killed):
        loop.night()
    assert loop.statuses() == ["promoted", "unfinished"]
    assert loop.current == 1
    loop.steps.stop = ""
    assert loop.again().night == 2
    done = [*STEPS[: STEPS.index(step) + 1], *STEPS[STEPS.index(step) :]]
    assert loop.steps.calls == done
    assert loop.current == 2


@pytest.mark.parametrize("write", range(1, 8))
def test_a_kill_after_any_step_does_nothing_twice(loop: Loop, write: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after each of the writes of nights.json, of which the first begins the night."""
    loop.night()
    loop.steps.calls.clear()
    writes, whole = 0, LoopFolder.write

    def killed(self: LoopFolder, night: Night) -> None:
        nonlocal writes
        whole(self, night)
        writes += 1
        if writes == write:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(LoopFolder, "write", killed)
        with pytest.raises(Killed):
            loop.night()
    if loop.folder.nights()[-1].status == "unfinished":
        loop.again()
    assert loop.steps.calls == list(STEPS)
    assert loop.current == 2
    assert loop.promoted == (1, 2)


def test_a_data_set_that_is_whole_is_not_made_again(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kill comes after the last file of the data set, before nights.json is written."""
    whole = loop.steps.prepare

    def killed(dataset: str, without: Spans) -> None:
        whole(dataset, without)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(loop.steps, "prepare", killed)
        with pytest.raises(Killed):
            loop.night()
    assert loop.again().status == "promoted"
    assert loop.steps.calls == list(STEPS)


def test_a_data_set_that_arrived_in_part_is_made_again(loop: Loop) -> None:
    """A kill in an object store: some objects of the data set are there, without its last file."""
    loop.steps.stop = "prepare"
    with pytest.raises(Killed):
        loop.night()
    part = loop.path / "nights/0001/dataset/transitions"
    part.mkdir(parents=True)
    loop.steps.stop = ""
    assert loop.again().status == "promoted"
    assert not part.exists()


def test_a_night_that_was_killed_is_not_continued_with_other_settings(loop: Loop) -> None:
    loop.steps.stop = "train"
    with pytest.raises(Killed):
        loop.night()
    loop.steps.stop = ""
    night = loop.again(digest="other")
    assert (night.night, night.log.requests) == (2, 1000)
    assert loop.statuses() == ["failed", "promoted"]


def test_a_night_that_fails_leaves_what_is_current(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.night()

    def diverges(*_: object) -> None:
        raise UserError("training diverged")

    with monkeypatch.context() as patched:
        patched.setattr(loop.steps, "train", diverges)
        with pytest.raises(UserError, match=r"^training diverged$"):
            loop.night()
    assert loop.current == 1
    assert (loop.statuses()[-1], loop.folder.nights()[-1].why) == ("failed", "training diverged")
    night = loop.again()  # its requests are new again
    assert (night.night, night.log.spans, loop.current) == (3, ((1000, 1999),), 3)
    assert loop.steps.without == ((2000, 999_999), (1_000_000, 1_999_999))
    assert loop.night().log.spans == ((2000, 2999),)


@pytest.mark.parametrize("logs", [("b", "a"), ("c", "a", "b"), ("a",), ("a", "c"), ()])
def test_logs_in_another_order_are_refused(loop: Loop, logs: tuple[str, ...]) -> None:
    """Refused positions of one log would be left out of another log."""
    loop.night()
    with pytest.raises(UserError, match="refused"):
        loop.night(broken=True)
    loop.steps.logs = logs
    with pytest.raises(UserError, match=r"source\.path: logs .* \(log_id\); expected a, b, then new ones$"):
        loop.night()
    assert loop.statuses() == ["promoted", "refused", "failed"]
    loop.steps.logs = ("a", "b", "c")
    assert loop.again().status == "promoted"
    assert loop.folder.nights()[-1].logs == ("a", "b", "c")


@pytest.mark.parametrize("flood", [False, True])
def test_what_gathers_while_nights_fail_is_not_refused_and_a_flood_is(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, flood: bool
) -> None:
    def diverges(*_: object) -> None:
        raise UserError("training diverged")

    loop.night()
    loop.night()
    with monkeypatch.context() as patched:
        patched.setattr(loop.steps, "train", diverges)
        for _ in range(4):
            with pytest.raises(UserError, match=r"^training diverged$"):
                loop.night()
    if flood:
        with pytest.raises(UserError, match="7,001 impressions, expected 333 to 7,000 from earlier nights"):
            loop.night(requests=3001)
    else:
        assert loop.night().log.spans == ((2000, 6999),)
        assert loop.current == 7


def test_old_nights_go_when_all_nights_fail_too(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    loop.settings["keep"] = 2
    loop.night()
    loop.night()
    monkeypatch.setattr(loop.steps, "train", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            loop.night()
    assert sorted(folder.name for folder in (loop.path / "nights").iterdir()) == ["0001", "0002", "0004", "0005"]
    assert loop.current == 2


def test_nights_without_files_replace_no_others(loop: Loop) -> None:
    loop.settings["keep"] = 3
    for _ in range(4):
        loop.night()
    for _ in range(3):
        with pytest.raises(UserError, match="refused"):
            loop.night(broken=True)
    assert sorted(folder.name for folder in (loop.path / "nights").iterdir()) == ["0002", "0003", "0004"]


def test_the_log_is_made_smaller_after_a_night_that_ended_well(loop: Loop) -> None:
    loop.settings["compact_days"] = 3
    loop.night()
    assert loop.steps.calls[-1] == "compact -3"
    with pytest.raises(UserError):
        loop.night(broken=True)
    assert loop.steps.calls[-1] == "check"


def test_a_night_ends_well_without_a_compaction(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def claimed(before: float) -> None:
        raise UserError("another process writes to it")

    monkeypatch.setattr(loop.steps, "compact", claimed)
    loop.settings["compact_days"] = 3
    assert loop.night().status == "promoted"
    assert loop.printed[-1] == "the event log was not compacted: another process writes to it"
