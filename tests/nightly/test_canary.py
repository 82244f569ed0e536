"""Staged release: a candidate becomes a canary, and looks at it extend, promote or withdraw it."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_nights import NAME, Killed, Loop, evaluation, made_comparison

from prefrec_ray.cli.main import run as prefrec
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.records import GuardRailRecord
from prefrec_ray.evaluation.results.verdict import verdicts
from prefrec_ray.guard_rails import Status
from prefrec_ray.nightly.folder import LoopFolder
from prefrec_ray.serving.experiment.compare import CanaryComparison, ComparedOutcome
from prefrec_ray.serving.experiment.estimates import ArmEstimate


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path / "loop", settings={"release": "canary"})


def test_a_candidate_becomes_a_canary_and_then_the_current_policy(loop: Loop) -> None:
    night = loop.night()
    record = loop.folder.record()
    assert (night.status, loop.current) == ("canary", None)
    assert record.canary is not None
    assert (record.canary.night, record.canary.share, record.canary.target) == (1, 0.05, "nights/0001/run/policy")

    loop.steps.compared = made_comparison(0.1)  # its interval contains 0
    loop.steps.calls.clear()
    night = loop.night()
    assert (night.status, loop.steps.calls) == ("waiting", ["check", "compare night-1 0.05"])  # nothing is trained
    assert night.look is not None
    assert night.look.decision == "extend"

    loop.steps.compared = made_comparison(0.5)
    night = loop.night()
    assert (night.status, loop.promoted, loop.current) == ("canary", (1,), 1)  # its own policy is the next canary
    assert loop.statuses() == ["promoted", "waiting", "canary"]
    record = loop.folder.record()
    assert record.canary is not None
    assert record.canary.night == 3


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("growth", "status"), [(6.0, "canary"), (1.0, "refused")])
def test_a_promotion_may_multiply_the_impressions_as_its_canary_did(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, growth: float, status: str, fails: bool
) -> None:
    """Also if the night of the promotion fails in training."""
    loop.night()
    loop.night()
    main, canary = (ArmEstimate(value, value - 1, value + 1, 100) for value in (10.0, 10.0 * growth))
    activity = ComparedOutcome("requests a day", main, canary, canary)
    loop.steps.compared = replace(made_comparison(0.5), outcomes=[activity])

    def diverges(*_: object) -> None:
        raise UserError("training diverged")

    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"diverged") if fails else nullcontext():
        if fails:
            patched.setattr(loop.steps, "train", diverges)
        loop.night()
    assert loop.promoted == (1,)
    loop.steps.compared = made_comparison(-0.5)  # the next canary is withdrawn
    with pytest.raises(UserError, match=r"[67],000 impressions") if status == "refused" else nullcontext():
        loop.night(requests=6000)
    assert loop.statuses()[-1] == status


@pytest.mark.parametrize(
    ("compared", "decision", "why"),
    [
        (made_comparison(-0.5), "withdraw", "difference of -0.50 [-0.70, -0.30] levels, below 0"),
        (made_comparison(0.5, like=-0.05), "withdraw", "broken: feedback.like >= -2 %"),
        (made_comparison(-0.5, like=-0.05), "withdraw", "broken: feedback.like >= -2 %"),
        (made_comparison(0.1, days=28.0), "withdraw", "not above 0, after 28 days"),
        (made_comparison(0.5, like=0.0, days=28.0), "withdraw", "open: feedback.like >= -2 % after 28 days"),
        (made_comparison(0.5, like=0.05), "promote", "above 0, every guard-rail is kept"),
        (made_comparison(0.5), "promote", "above 0"),
        (made_comparison(0.5, like=0.05, days=28.0), "promote", "above 0, every guard-rail is kept"),
        (made_comparison(0.5, like=0.0), "extend", "open: feedback.like >= -2 %; share 10%"),
        (made_comparison(0.1, like=0.05), "extend", "difference of +0.10 [-0.10, +0.30] levels"),
        (made_comparison(math.nan, half=5.0), "extend", "no level yet of a user with earlier sessions (0 users wait)"),
        (made_comparison(math.nan, half=5.0, like=-0.05), "withdraw", "broken: feedback.like >= -2 %"),
    ],
)
def test_the_first_line_of_the_table_that_applies_decides(
    loop: Loop, compared: CanaryComparison, decision: str, why: str
) -> None:
    loop.night()
    loop.steps.compared = compared
    night = loop.night(gain=0.0)
    assert night.look is not None
    assert (night.look.decision, why in night.look.why) == (decision, True), night.look.why
    record = loop.folder.record()
    assert (record.canary is not None) == (decision == "extend")
    assert record.promoted == ((1,) if decision == "promote" else ())
    assert record.withdrawn == ((1,) if decision == "withdraw" else ())


def test_the_share_doubles_up_to_a_half_while_only_guard_rails_are_open(loop: Loop) -> None:
    loop.settings["canary"] = {"share": 0.004}
    loop.night()
    loop.steps.compared = made_comparison(0.5, like=0.0)
    looks = [loop.night().look for _ in range(8)]
    assert [look.share for look in looks] == [0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.5, 0.5]
    assert "; share 0.8% (" in looks[0].line
    assert loop.folder.record().canary.share == 0.5


def test_a_withdrawn_policy_never_returns(loop: Loop) -> None:
    loop.night()
    loop.steps.compared = made_comparison(-0.5)
    loop.night(gain=0.0)
    loop.folder.begin_canary(1, 0.05, 0)
    loop.folder.promote(1)
    assert (loop.folder.record().canary, loop.promoted) == (None, ())
    assert loop.statuses() == ["withdrawn", "kept"]


def test_a_canary_that_no_server_serves_is_extended_and_then_withdrawn(loop: Loop) -> None:
    loop.night()
    loop.steps.compared = None
    night = loop.night()
    assert (night.status, night.look.why) == ("waiting", "no server serves it yet (POST /reload)")
    assert loop.folder.record().canary.share == 0.05
    loop.clock = 28 * 86_400
    assert loop.night().look.why == "no server serves it after 28 days"
    assert loop.folder.record().withdrawn == (1,)


def test_a_refused_night_can_only_withdraw_the_canary(loop: Loop) -> None:
    loop.night()
    for value, withdrawn in ((0.5, ()), (-0.5, (1,))):
        loop.steps.compared = made_comparison(value)
        with pytest.raises(UserError, match=f"night {2 + len(withdrawn)}: refused"):
            loop.night(broken=True)
        assert (loop.promoted, loop.folder.record().withdrawn) == ((), withdrawn)
    assert "canary of night 1 withdrawn" in loop.folder.nights()[-1].line
    loop.settings["accept"] = (3,)
    night = loop.again()
    assert (night.night, night.status, night.look.decision) == (3, "canary", "withdraw")


def test_an_accepted_night_looks_at_the_canary(loop: Loop) -> None:
    loop.night()
    with pytest.raises(UserError, match="night 2: refused"):
        loop.night(broken=True)
    loop.steps.compared = made_comparison(0.5)
    loop.settings["accept"] = (2,)
    assert loop.again().status == "canary"
    assert loop.promoted == (1,)


def test_a_refused_night_stays_refused_if_its_look_fails(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later nights would use the impressions of a failed night."""
    loop.night()

    def fails(*_: object) -> None:
        raise UserError("found arms that differ")

    monkeypatch.setattr(loop.steps, "compare", fails)
    with pytest.raises(UserError, match="found arms that differ"):
        loop.night(broken=True)
    assert loop.statuses() == ["canary", "refused"]


@pytest.mark.parametrize(("explore", "status"), [(True, "canary"), (False, "kept")])
def test_an_inconclusive_policy_is_a_canary_only_if_the_loop_explores(loop: Loop, explore: bool, status: str) -> None:
    loop.settings["canary"] = {"explore": explore, "share": 0.2}
    night = loop.night(gain=0.5, states=0.3)
    assert (night.verdict, night.status) == ("inconclusive", status)
    loop.steps.compared = made_comparison(-0.5)
    assert loop.night(gain=-0.5).status == "kept"  # a policy that is estimated to lose is never shown


@pytest.mark.parametrize(
    ("of_rail", "verdict", "status"),
    [("kept", "candidate", "canary"), ("open", "inconclusive", "canary"), ("broken", "do_not_ship", "kept")],
)
def test_a_canary_decides_guard_rails_that_models_leave_open(
    loop: Loop, of_rail: Status, verdict: str, status: str
) -> None:
    rail = GuardRailRecord(rail="feedback.like >= -2 %", value=0.1, allowed=0.1, low=-0.1, high=0.1, status=of_rail)
    result = evaluation(0.5).model_copy(update={"guard_rails": {NAME: (rail,)}})
    loop.steps.log.append((1000, False))
    loop.steps.result = result.model_copy(update={"verdicts": verdicts(result)})
    night = loop.again()
    assert (night.verdict, night.status) == (verdict, status)


def test_rollback_withdraws_the_canary_first(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.night()
    loop.steps.compared = made_comparison(0.5)
    loop.night()
    loop.night()
    assert (loop.promoted, loop.folder.record().canary.night) == ((1, 2), 3)
    assert prefrec(["rollback", str(loop.path)]) == 0
    assert "withdrawn: the canary of night 3" in capsys.readouterr().out
    assert (loop.promoted, loop.folder.record().canary) == ((1, 2), None)
    assert prefrec(["rollback", str(loop.path)]) == 0
    assert "from night 2 to night 1" in capsys.readouterr().out


def test_the_files_of_the_canary_stay(loop: Loop) -> None:
    loop.settings["keep"] = 1
    loop.night()
    for _ in range(3):
        loop.night()
    assert (loop.path / "nights/0001/run/policy/policy.json").exists()


def test_status_shows_the_canary_and_the_last_look(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    assert prefrec(["status", str(loop.path)]) == 2
    assert capsys.readouterr().err.endswith("no night yet; expected the folder of a loop with nights.json\n")
    loop.settings["canary"] = {"share": 0.002}
    loop.night()
    loop.steps.compared = made_comparison(0.5, like=0.0)
    loop.night()
    assert prefrec(["status", str(loop.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "current: none promoted yet"
    assert lines[1] == "canary:  night 1, 0.4% of the users, since 1970-01-01 00:00 UTC"
    assert lines[2].startswith("last look: canary of night 1 extended: difference of +0.50 [+0.30, +0.70] levels")
    assert lines[3] == "  feedback.like >= -2 %: open"
    nights = [line.split() for line in lines[5:] if line[0].isdigit()]  # the other lines continue a reason
    states = [next(word for word in words if word in ("canary", "waiting")) for words in nights]
    assert states == ["canary", "waiting"]


@pytest.mark.parametrize("value", [0.5, -0.5])
def test_a_decision_is_carried_out_as_first_taken_after_a_kill(
    loop: Loop, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log may have grown meanwhile, and would decide otherwise."""
    loop.night()
    loop.steps.compared = made_comparison(value)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(LoopFolder, "carry_out", killed)
        with pytest.raises(Killed):
            loop.night(gain=0.0)
    assert loop.folder.record().canary is not None
    loop.steps.compared = made_comparison(0.0)
    loop.again()
    record = loop.folder.record()
    assert record.canary is None
    assert record.promoted == ((1,) if value > 0 else ())
    assert record.withdrawn == (() if value > 0 else (1,))
