"""A promotion and a rollback are killed once in every step: the current policy is the old one or the new one."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killed import killed_copies
from made_up_nights import Killed, Loop, made_comparison

from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy
from prefrec_ray.serving.experiment.compare import CanaryComparison


def killed_loops(act: Callable[[Loop], object], loop: Loop, tmp_path: Path) -> Iterator[Loop]:
    """Yield `loop` as each kill of `act` leaves it, one change of its folder later each time."""

    def at(folder: Path) -> Loop:
        return Loop(folder, copy.deepcopy(loop.steps), loop.settings)

    for folder in killed_copies(lambda mine: act(at(mine)), loop.path, tmp_path, "nightly", "storage"):
        yield at(folder)


def serves(loop: Loop) -> bool:
    """Return True if the current policy loads."""
    return len(Policy.load(loop.folder.current).items) == 3


def both(loop: Loop) -> tuple[Loop, Loop]:
    """Return the loop and a copy of it."""
    other = Loop(loop.path.with_name("other"), copy.deepcopy(loop.steps), loop.settings)
    shutil.copytree(loop.path, other.path)
    return loop, other


def test_a_promotion_is_killed_once_in_every_step(loop: Loop, tmp_path: Path) -> None:
    """Report, promotion, and the removal of an old night."""
    loop.settings["keep"] = 1
    loop.night()
    loop.night()
    loop.steps.stop = "report"
    with pytest.raises(Killed):
        loop.night()
    loop.steps.stop = ""
    states = []
    for killed in killed_loops(Loop.again, loop, tmp_path / "killed"):
        promoted = killed.promoted
        states.append(promoted)
        assert (promoted, killed.current) in (((1, 2), 2), ((1, 2, 3), 3))
        assert serves(killed)
        unfinished = killed.statuses()[-1] == "unfinished"
        assert unfinished or promoted == (1, 2, 3)
        onwards, back = both(killed)
        if unfinished:
            assert onwards.again().status == "promoted"
        assert (onwards.promoted, onwards.current) == ((1, 2, 3), 3)
        onwards.night()
        assert (onwards.promoted, onwards.current) == ((1, 2, 3, 4), 4)

        assert back.folder.back() == (promoted[-1], promoted[-2], [])
        assert (back.promoted, back.current) == (promoted[:-1], promoted[-2])
        assert serves(back)
        if unfinished:
            night = back.again()
            assert (night.night, night.status) == (3, "kept" if 3 in promoted else "promoted")
        assert back.promoted == ((1, 2) if 3 in promoted else (1, 3))
    assert states == sorted(states)  # once new, never old
    assert {*states} == {(1, 2), (1, 2, 3)}


@pytest.mark.parametrize(
    ("compared", "after"),
    [
        (made_comparison(0.5), ((1,), (), 3)),
        (made_comparison(-0.5), ((), (1,), 3)),
        (made_comparison(0.5, like=0.0), ((), (), 1)),
    ],
)
def test_a_look_and_the_next_canary_are_killed_once_in_every_step(
    loop: Loop, tmp_path: Path, compared: CanaryComparison, after: tuple[tuple[int, ...], tuple[int, ...], int]
) -> None:
    """No policy is promoted or withdrawn without a line in nights.json, and there is at most one canary."""
    loop.settings["release"] = "canary"
    loop.night()
    loop.night()
    loop.steps.compared = compared
    seen = set()
    for killed in killed_loops(Loop.night, loop, tmp_path / "killed"):
        record = killed.folder.record()
        seen.add((record.promoted, record.withdrawn, None if record.canary is None else record.canary.night))
        looks = {night.look.night: night.look.decision for night in killed.folder.nights() if night.look is not None}
        if record.promoted or record.withdrawn:
            assert looks[1] == ("promote" if record.promoted else "withdraw")
        if record.canary is not None and record.canary.night == 1 and record.canary.share > 0.05:
            assert killed.folder.nights()[-1].look.share == record.canary.share
        killed.steps.log = [*loop.steps.log, (1000, False)]  # of the killed process
        if killed.statuses()[2:] in ([], ["unfinished"]):  # killed before or within the third night
            killed.again()
        record = killed.folder.record()
        assert (record.promoted, record.withdrawn, record.canary.night) == after
        assert (record.canary.share, len(killed.folder.nights())) == (0.1 if after[2] == 1 else 0.05, 3)
    begun = {((), (), 1), after}
    assert begun <= seen <= begun | {(*after[:2], None)}


def test_a_refused_night_that_withdraws_is_killed_once_in_every_step(loop: Loop, tmp_path: Path) -> None:
    loop.settings["release"] = "canary"
    loop.night()
    loop.steps.compared = made_comparison(-0.5)

    def refused(mine: Loop) -> None:
        with pytest.raises(UserError, match="night 2: refused"):
            mine.night(broken=True)

    for killed in killed_loops(refused, loop, tmp_path / "killed"):
        looks = [night.look.decision for night in killed.folder.nights() if night.look is not None]
        assert looks == ["withdraw"] or killed.folder.record().canary is not None
        if killed.statuses() != ["withdrawn", "refused"]:
            refused(killed)
        assert (killed.statuses(), killed.folder.record().withdrawn) == (["withdrawn", "refused"], (1,))


def test_a_rollback_is_killed_once_in_every_step(loop: Loop, tmp_path: Path) -> None:
    for _ in range(3):
        loop.night()
    states = []
    for killed in killed_loops(lambda mine: mine.folder.back(), loop, tmp_path / "killed"):
        promoted = killed.promoted
        states.append(promoted)
        assert (promoted, killed.current) in (((1, 2, 3), 3), ((1, 2), 2))
        assert serves(killed)
        onwards, back = both(killed)
        assert onwards.night().status == "promoted"
        assert onwards.promoted == (*promoted, 4)
        assert onwards.steps.before == list(promoted)  # a rejected policy is not averaged later
        assert back.folder.back() == (promoted[-1], promoted[-2], [])
        assert (back.promoted, back.current) == (promoted[:-1], promoted[-2])
    assert states == sorted(states, reverse=True)
    assert {*states} == {(1, 2, 3), (1, 2)}
