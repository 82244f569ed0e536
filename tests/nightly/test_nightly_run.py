"""Nights with made-up steps: what is promoted, what a kill leaves, what is refused, and the way back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from made_records import made_record

from prefrec_ray.cli.main import run as prefrec
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.records import Evaluation, ItemShare, Served, Support
from prefrec_ray.evaluation.verdict import verdicts
from prefrec_ray.nightly.check import Column, Counted
from prefrec_ray.nightly.folder import STEPS, LoopFolder, Night
from prefrec_ray.nightly.run import Spans, run_night
from prefrec_ray.nightly.settings import LoopSettings

NAME = "PrefRec"
#: Positions of the first log, and of the second.
RANGES = ((0, 999_999), (1_000_000, 1_999_999))


class Killed(BaseException):
    """As a kill, nothing in the product catches it."""


def evaluation(gain: float, states: float = 0.95, top: float = 0.02) -> Evaluation:
    """Of a policy that gains so much, with such support; its most served item has the share `top`."""
    records = (
        made_record(NAME, 1.0 + gain, estimator="model", gain_ci_low=gain - 0.1, gain_ci_high=gain + 0.1),
        made_record("random items", 1.01, role="control", estimator="model"),
    )
    shares = {NAME: top, "behaviour": 0.02}
    served = {
        name: Served(requests=1000, distinct_items=500, top_items=(ItemShare(item_id=1, share=share),))
        for name, share in shares.items()
    }
    support = {NAME: Support(states=states, threshold=0.8, supported=states >= 0.8)}
    outcome = Evaluation(records=records, served=served, support=support)
    return outcome.model_copy(update={"verdicts": verdicts(outcome)})


def several(bundle: str) -> Evaluation:
    """The policy of the night, for which the log cannot vouch, and that of `bundle`, which is a candidate."""
    own, other = evaluation(0.5, states=0.5), evaluation(0.4)
    name = f"{NAME} variety 6"
    record = other.records[0].model_copy(update={"subject": name, "bundle": bundle})
    outcome = own.model_copy(
        update={
            "records": (*own.records[1:], record),
            "served": {**own.served, name: other.served[NAME]},
            "support": {**own.support, name: other.support[NAME]},
        }
    )
    return outcome.model_copy(update={"verdicts": verdicts(outcome)})


@dataclass
class Steps:
    """Two logs: a number of requests a night, of which some have no clicks. `stop`: the step that is killed."""

    log: list[tuple[int, bool]]
    second: list[tuple[int, bool]] = field(default_factory=list)
    ranges: Spans = RANGES
    logs: tuple[str, ...] = ("a", "b")
    result: Evaluation = field(default_factory=lambda: evaluation(0.5))
    stop: str = ""
    leaves_out: bool = True
    calls: list[str] = field(default_factory=list)
    without: Spans = ()
    start: str | None = None
    before: list[int] = field(default_factory=list)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.stop == name:
            raise Killed

    def count(self, spans: Spans) -> Counted:
        if any(last == 999_999 for _, last in spans):  # parts of the night, and those refused, are counted again
            self._call("check")
        counted_spans, part = [], []
        for low, high in spans:
            base, log = (0, self.log) if high < 1_000_000 else (1_000_000, self.second)
            clicks = [broken for requests, broken in log for _ in range(requests)]
            high = min(high, base + len(clicks) - 1)
            if low <= high:
                counted_spans.append((low, high))
                part += clicks[low - base : high - base + 1]
        if not part:
            return Counted(spans=(), requests=0, users=0, feedback={})
        column = Column(low=0, high=0, share=0) if all(part) else Column(low=0, high=1, share=0.5)
        requests = len(part)
        return Counted(spans=tuple(counted_spans), requests=requests, users=requests // 10, feedback={"click": column})

    def prepare(self, dataset: str, without: Spans) -> None:
        self._call("prepare")
        self.without = without
        Path(dataset).mkdir(parents=True)
        Path(dataset, "metadata.json").write_text("{}")

    def train(self, dataset: str, run: str, start: str | None) -> None:
        self._call("train")
        self.start = start
        assert Path(dataset, "metadata.json").exists()
        Path(run, "policy").mkdir(parents=True, exist_ok=True)
        Path(run, "policy", "policy.json").write_text(json.dumps(run))

    def evaluate(self, dataset: str, run: str, before: Sequence[str]) -> Evaluation:
        self._call("evaluate")
        self.before = [int(Path(one).parent.name) for one in before]
        return self.result

    def report(self, run: str, file: str) -> None:
        self._call("report")
        Path(file).write_text("page")

    def compact(self, before: float) -> None:
        self._call(f"compact {before / 86_400:g}")


@dataclass
class Loop:
    """A loop in a folder, whose log grows by `night`."""

    path: Path
    steps: Steps = field(default_factory=lambda: Steps([]))
    settings: dict[str, object] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)

    @property
    def folder(self) -> LoopFolder:
        return LoopFolder(str(self.path))

    @property
    def current(self) -> int | None:
        """The night whose policy is served."""
        alias = self.path / "current"
        return int(alias.resolve().relative_to(self.path.resolve() / "nights").parts[0]) if alias.is_symlink() else None

    def night(
        self, gain: float = 0.5, requests: int = 1000, broken: bool = False, digest: str = "same", **more: float
    ) -> Night:
        self.steps.log.append((requests, broken))
        self.steps.result = evaluation(gain, **more)
        return self.again(digest)

    def again(self, digest: str = "same") -> Night:
        loop = LoopSettings.model_validate({"folder": str(self.path), **self.settings})
        return run_night(loop, self.steps, digest, self.printed.append, lambda: 0.0)

    def statuses(self) -> list[str]:
        return [night.status for night in self.folder.nights()]


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path / "loop")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"gain": 0.5}, "candidate"),
        ({"gain": 0.05}, "no_difference"),
        ({"gain": -0.5}, "do_not_ship"),
        ({"gain": 0.5, "states": 0.3}, "cannot_say"),
        ({"gain": 0.5, "top": 0.95}, "cannot_say"),  # it collapses: one item for nearly everybody
    ],
)
def test_only_a_candidate_is_promoted(loop: Loop, found: dict[str, float], verdict: str) -> None:
    loop.night()
    night = loop.night(**found)
    assert night.verdict == verdict
    assert night.status == ("promoted" if verdict == "candidate" else "kept")
    assert loop.current == (2 if verdict == "candidate" else 1)


def test_of_several_policies_of_a_night_the_one_with_the_best_verdict_is_promoted(loop: Loop) -> None:
    """Its own lacks support; `current` is the bundle of the other, and the way back leads to it too."""
    loop.steps.log.append((1000, False))
    other = loop.path / "nights/0001/run/constrained"
    other.mkdir(parents=True)
    (other / "policy.json").write_text("{}")
    loop.steps.result = several(str(other))
    night = loop.again()
    assert (night.verdict, night.status, night.policy) == ("candidate", "promoted", "run/constrained")
    assert (loop.path / "current").resolve() == other.resolve()
    loop.night()
    assert loop.current == 2
    loop.folder.back()
    assert (loop.path / "current").resolve() == other.resolve()


def test_a_policy_is_averaged_with_those_that_were_promoted_before_and_not_taken_back(loop: Loop) -> None:
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


def test_without_a_candidate_nothing_is_current(loop: Loop) -> None:
    assert loop.night(gain=0.0).status == "kept"
    assert loop.current is None
    with pytest.raises(UserError, match="no policy before the current one; found none"):
        loop.folder.back()


def test_a_loop_may_judge_and_never_promote(loop: Loop) -> None:
    loop.settings["promote"] = "none"
    night = loop.night()
    assert (night.verdict, night.status, loop.current) == ("candidate", "kept", None)


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
        "night 1: promoted, 1,000 new requests of 100 users",
        "night 2: kept, 1,000 new requests of 100 users",
    ]
    assert (loop.path / "nights/0002/report.html").exists()


def test_a_poisoned_night_is_refused_before_anything_is_made_of_it(loop: Loop) -> None:
    loop.night()
    loop.steps.calls.clear()
    with pytest.raises(UserError) as error:
        loop.night(broken=True)
    assert "night 2: refused" in str(error.value)
    assert "feedback 'click' is 0 in all 1,000 requests" in str(error.value)
    assert "\n" not in str(error.value)
    assert loop.steps.calls == ["check"]
    assert loop.statuses() == ["promoted", "refused"]
    assert loop.current == 1


def test_a_column_that_broke_in_the_middle_of_a_night_is_refused(loop: Loop) -> None:
    loop.night()
    loop.steps.log.append((800, False))
    with pytest.raises(UserError, match=r"feedback 'click' is 0 in all 400 consecutive requests"):
        loop.night(requests=800, broken=True)
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
    with pytest.raises(UserError, match="the requests of night 2, which was refused, are still in the log"):
        loop.night()
    loop.steps.log[1] = (1000, False)
    assert loop.night().status == "promoted"


def test_a_refused_night_goes_on_once_it_is_accepted(loop: Loop) -> None:
    loop.night()
    loop.night()
    with pytest.raises(UserError, match="5,000 requests, expected 333 to 3,000"):
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
    loop.steps.second.append((200, False))
    loop.steps.second.append((200, True))
    with pytest.raises(UserError, match=r"feedback 'click' is 0 in all \d+ consecutive requests"):
        loop.night(broken=True)
    loop.steps.second.append((500, False))
    assert loop.night().status == "promoted"
    assert loop.steps.without == (
        (2000, 2999),
        (1_000_600, 1_000_999),
        (4000, 999_999),
        (1_001_500, 1_999_999),
    )


@pytest.mark.parametrize("step", STEPS[:-1])
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
    done = [*STEPS[: STEPS.index(step) + 1], *STEPS[STEPS.index(step) : -1]]
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
    assert loop.steps.calls == list(STEPS[:-1])
    assert loop.current == 2
    assert loop.folder.promoted() == [1, 2]


def test_a_data_set_that_is_whole_is_not_made_again(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its last file, before nights.json says so."""
    whole = loop.steps.prepare

    def killed(dataset: str, without: Spans) -> None:
        whole(dataset, without)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(loop.steps, "prepare", killed)
        with pytest.raises(Killed):
            loop.night()
    assert loop.again().status == "promoted"
    assert loop.steps.calls == list(STEPS[:-1])


def test_a_kill_between_list_and_alias_is_mended(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.night()

    def killed(alias: str, target: str) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("prefrec_ray.nightly.folder.point", killed)
        with pytest.raises(Killed):
            loop.night()
    assert loop.current == 1
    assert loop.again().status == "promoted"
    assert loop.current == 2
    assert loop.folder.promoted() == [1, 2]


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

    def diverges(dataset: str, run: str, start: str | None) -> None:
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
    """What was refused of one would be left out of another, and be learned from."""
    loop.night()
    with pytest.raises(UserError, match="refused"):
        loop.night(broken=True)
    loop.steps.logs = logs
    with pytest.raises(UserError, match=r"source\.path: logs .* \(log_id\); expected a, b, and new ones behind them$"):
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
        with pytest.raises(UserError, match="7,001 requests, expected 333 to 7,000 by earlier nights"):
            loop.night(requests=3001)
    else:
        assert loop.night().log.spans == ((2000, 6999),)
        assert loop.current == 7


def test_rollback_goes_back_one_by_one(loop: Loop) -> None:
    for gain in (0.5, 0.4, 0.0, 0.3):
        loop.night(gain=gain)
    assert loop.folder.promoted() == [1, 2, 4]
    assert prefrec(["rollback", str(loop.path)]) == 0
    assert loop.current == 2
    assert prefrec(["rollback", str(loop.path)]) == 0
    assert loop.current == 1
    assert prefrec(["rollback", str(loop.path)]) == 2
    assert loop.current == 1
    loop.night()
    assert loop.folder.promoted() == [1, 5]
    loop.folder.back()
    assert loop.current == 1


def test_a_rollback_that_cannot_move_the_alias_changes_nothing_and_a_kill_skips_no_night(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        loop.night()
    alias = loop.path / "current"
    alias.unlink()
    alias.mkdir()  # as a copy that follows links makes it
    with pytest.raises(UserError, match="found a file or folder of that name"):
        loop.folder.back()
    assert loop.folder.promoted() == [1, 2, 3]
    alias.rmdir()
    alias.symlink_to("nights/0003/run/policy")

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("prefrec_ray.storage.write_json", killed)
        with pytest.raises(Killed):
            loop.folder.back()
    assert loop.current == 2
    assert loop.folder.back() == (3, 2)
    assert (loop.current, loop.folder.promoted()) == (2, [1, 2])


def test_old_nights_go_and_the_current_one_and_the_one_before_stay(loop: Loop) -> None:
    loop.settings["keep"] = 1
    for gain in (0.5, 0.5, 0.5, 0.0, 0.0):
        loop.night(gain=gain)
    assert sorted(path.name for path in (loop.path / "nights").iterdir()) == ["0002", "0003", "0005"]
    assert len(loop.folder.nights()) == 5
    loop.folder.back()
    assert loop.current == 2
    with pytest.raises(UserError, match="its policy is gone"):
        loop.folder.back()
    assert loop.current == 2


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


def test_the_log_is_made_smaller_after_a_night_that_ended_well(loop: Loop) -> None:
    loop.settings["compact_days"] = 3
    loop.night()
    assert loop.steps.calls[-1] == "compact -3"
    with pytest.raises(UserError):
        loop.night(broken=True)
    assert loop.steps.calls[-1] == "check"


def test_a_warm_start_is_from_the_current_policy(loop: Loop) -> None:
    loop.night()
    loop.night(gain=0.0)
    assert loop.steps.start is None
    loop.settings["warm_start"] = True
    loop.night()
    assert loop.steps.start == str(loop.path / "nights/0001/run")


def test_a_rollback_of_no_folder_makes_none(tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    with pytest.raises(UserError, match="no policy before the current one; found none"):
        LoopFolder(str(folder)).back()
    assert not folder.exists()
