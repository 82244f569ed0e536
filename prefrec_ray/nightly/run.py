"""One night: check, a look at the canary, preparation, training, evaluation, and release of a candidate.

A night ends after the look if the canary goes on: only one policy at a time is compared with the current policy.
The result of a step is in nights.json before the next step begins: after a kill the next run repeats the interrupted
step, and training resumes from its last checkpoint. A failed or refused night is over, and the current policy stays. A
refused night also looks at the canary, but can only withdraw it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, takewhile
from typing import TYPE_CHECKING

from prefrec_ray import storage
from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.results.verdict import case_of, decide
from prefrec_ray.nightly.check import NightCounts, Spans, problems
from prefrec_ray.nightly.folder import STEPS, LoopFolder, Night, Step
from prefrec_ray.nightly.release import look
from prefrec_ray.nightly.settings import LoopSettings

if TYPE_CHECKING:  # Ray takes seconds to import
    from prefrec_ray.nightly.work import Stages


def run_night(loop: LoopSettings, work: Stages, say: Callable[[str], None] = print) -> Night:
    """Run one night in `loop.folder` to its end, and print its line by `say`.

    Raises `UserError` if the night is refused or fails with a `UserError`, if a file of the loop is damaged, and if
    another process runs a night there.
    """
    folder = LoopFolder(storage.absolute(loop.folder))
    with storage.claimed(folder.uri):
        night = _open_night(folder, loop, work.digest)
        if night.done:
            say(f"night {night.night}: resuming after {night.done[-1]}")
        try:
            for step in STEPS:
                if step not in night.done and night.status == "unfinished":
                    night = _do(step, night, folder, loop, work)
                    if night.status == "refused":
                        night = _look(night, folder, loop, work)
                    else:
                        night = night.model_copy(update={"done": (*night.done, step)})
                    folder.write(night)
        except Exception as error:
            if night.status != "refused":  # a refused night stays refused if only its look fails
                why = str(find_user_error(error) or f"{type(error).__name__}: {error}")
                night = night.model_copy(update={"status": "failed", "why": " ".join(why.split())[:500]})
            folder.write(night)
            _close(night, folder, loop, say)  # otherwise repeated failures fill the disk
            raise
        _close(night, folder, loop, say)
        if night.status == "refused":
            raise UserError(f"{loop.folder}: {night.line} (loop.accept: [{night.night}] uses them)")
        if loop.compact_days is not None:
            try:
                work.compact(time.time() - 86_400 * loop.compact_days)
            except (OSError, UserError) as error:  # such as a server that removes old events: the next night compacts
                say(f"the event log was not compacted: {error}")
    return night


def _close(night: Night, folder: LoopFolder, loop: LoopSettings, say: Callable[[str], None]) -> None:
    """Print the line of a night, and remove old nights."""
    say(night.line)
    folder.prune(loop.keep)


def _open_night(folder: LoopFolder, loop: LoopSettings, digest: str) -> Night:
    """Return the night that was interrupted, or that was refused and is accepted now, or else a new one."""
    nights, record = folder.nights(), folder.record()  # detects a damaged file before hours of work
    number = nights[-1].night + 1 if nights else 1
    if nights and nights[-1].status == "unfinished":
        if nights[-1].settings == digest or nights[-1].night in record.released:
            return nights[-1]
        changed = {"status": "failed", "why": "interrupted, and then the settings were changed"}
        folder.write(nights[-1].model_copy(update=changed))
    elif nights and nights[-1].status == "refused" and nights[-1].night in loop.accept and nights[-1].log:
        night = nights[-1].model_copy(
            update={"status": "unfinished", "why": "", "done": ("check",), "settings": digest}
        )
        folder.write(night)
        return night
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    night = Night(night=number, began=began, settings=digest)
    folder.write(night)
    return night


def _do(step: Step, night: Night, folder: LoopFolder, loop: LoopSettings, work: Stages) -> Night:
    """Do one step. Returns the night with the results of the step."""
    dataset, run = folder.path(night.night, "dataset"), folder.path(night.night, "run")
    if step == "check":
        return _check(night, folder, loop, work)
    if step == "look":
        return _look(night, folder, loop, work)
    if step == "prepare":
        if not storage.exists(storage.join(dataset, "metadata.json")):  # the file written last
            storage.remove(dataset)  # in a store: objects that arrived before a kill
            work.prepare(dataset, _without(night, folder.nights(), loop, work))
    elif step == "train":
        work.train(dataset, run, folder.current if folder.record().promoted else None)
    elif step == "evaluate":
        promoted = folder.record().promoted
        before = [folder.path(one, "run") for one in promoted[-loop.average + 1 :] if loop.average > 1]
        evaluation = work.evaluate(dataset, run, before, folder.current if promoted else None)
        return _judged(night, evaluation, folder.path(night.night))
    elif step == "report":
        work.report(run, folder.path(night.night, "report.html"))
    else:
        return _release(night, folder, loop)
    return night


def _check(night: Night, folder: LoopFolder, loop: LoopSettings, work: Stages) -> Night:
    """Count the new impressions, and refuse the night if they break a rule."""
    before = [one for one in folder.nights() if one.night != night.night]
    # The impressions of a failed night are new again.
    nights = [one for one in before if one.status != "failed"]
    latest = takewhile(lambda one: one.status == "failed", reversed(before))
    failed = next((one.log for one in latest if one.log is not None), None)
    accepted = [one for one in nights if one.log is not None and not _is_refused(one, loop)]
    if not work.leaves_out:
        _check_refused_are_gone(before, accepted, loop, work)
    known = next((one.logs for one in reversed(before) if one.logs), ())
    if work.logs[: len(known)] != known:  # earlier positions would be other rows
        found, expected = (", ".join(ids) or "none" for ids in (work.logs, known))
        raise UserError(f"prepare.source.path: logs {found} (log_id); expected {expected}, then new ones")
    counted = work.count(_behind(nights, work))
    flaws = _problems(counted, accepted, before, failed)
    night = night.model_copy(update={"log": counted, "logs": work.logs})
    if flaws and night.night not in loop.accept:
        return night.model_copy(update={"status": "refused", "why": "; ".join(flaws)})
    return night


def _behind(nights: Sequence[Night], work: Stages) -> Spans:
    """Return the positions after these nights in each log."""
    ends = [last for night in nights if night.log for _, last in night.log.spans]
    return tuple(
        (max((end + 1 for end in ends if first <= end <= last), default=first), last) for first, last in work.ranges
    )


def _problems(
    now: NightCounts, accepted: Sequence[Night], nights: Sequence[Night], failed: NightCounts | None = None
) -> list[str]:
    """Return the broken rules of a night's impressions, by the nights `accepted` and the promotions in `nights`."""
    earlier = [one.log for one in accepted if one.log is not None]
    return problems(now, earlier, failed, [_growth(nights, since=one.night) for one in accepted])


def _growth(nights: Sequence[Night], since: int) -> float:
    """Return the growth of a user's impressions by canaries that were promoted from the night `since` on."""
    looks = [one.look for one in nights if one.night >= since and one.look is not None]
    return math.prod(look.growth or 1.0 for look in looks if look.decision == "promote")


def _check_refused_are_gone(
    nights: Sequence[Night], accepted: Sequence[Night], loop: LoopSettings, work: Stages
) -> None:
    """Raise `UserError` if refused impressions are still in a source that cannot exclude them."""
    for one in nights:
        if _is_refused(one, loop) and one.log is not None and one.log.requests:
            again = work.count(one.log.spans)
            begin = min(first for first, _ in one.log.spans)
            earlier = [other for other in accepted if other.log and all(last < begin for _, last in other.log.spans)]
            flaws = _problems(again, earlier, nights)
            if again.requests and flaws:
                raise UserError(
                    f"the impressions of the refused night {one.night} are still in the log ({'; '.join(flaws)}); "
                    f"expected them repaired or removed, or loop.accept: [{one.night}]"
                )


def _is_refused(night: Night, loop: LoopSettings) -> bool:
    return night.status == "refused" and night.night not in loop.accept


def _without(night: Night, nights: Sequence[Night], loop: LoopSettings, work: Stages) -> Spans:
    """Return the positions that the night does not use: refused impressions, and impressions after its check."""
    refused = (one.log.spans for one in nights if _is_refused(one, loop) and one.log)
    return (*chain.from_iterable(refused), *_behind([*nights, night], work))


def _judged(night: Night, evaluation: Evaluation, home: str) -> Night:
    """Return the night with its best verdict and the policy in its folder `home` that has this verdict."""
    name, verdict = next(iter(evaluation.verdicts.items()), ("", None))
    if verdict is None:
        return night.model_copy(update={"verdict": "inconclusive", "why": "No verdict on the policy."})
    update: dict[str, object] = {"verdict": verdict.verdict, "why": " ".join(verdict.reasons)}
    case = case_of(evaluation, name)
    # A canary decides guard-rails that are open in models of users.
    update["testable"] = not case.rails_that_are("broken") and decide(replace(case, rails=())).verdict == "candidate"
    record = case.record
    if record is not None:
        low, high = record.gain_interval
        update |= {"gain": record.gain, "gain_ci_low": low, "gain_ci_high": high}
        if record.bundle is not None:
            update["policy"] = record.bundle.removeprefix(f"{home}/")
    return night.model_copy(update=update)


def _look(night: Night, folder: LoopFolder, loop: LoopSettings, work: Stages) -> Night:
    """Decide on the canary, and carry the decision out. The decision is in nights.json first.

    A refused night only withdraws: its log does not justify another decision, which waits for the next night.
    """
    if night.look is None:
        canary = folder.record().canary
        if canary is None:
            return night
        compared = work.compare(canary, folder.bundle(canary), loop.canary)
        found = look(canary, compared, loop.canary, round(1000 * time.time()))
        if night.status == "refused" and found.decision != "withdraw":
            return night
        night = night.model_copy(update={"look": found})
        # A night that is refused is not over yet: after a kill before `carry_out`, the next run carries this look out.
        folder.write(night.model_copy(update={"status": "unfinished", "why": ""}))
    assert night.look is not None
    folder.carry_out(night.look)
    return night.model_copy(update={"status": "waiting"}) if night.look.decision == "extend" else night


def _release(night: Night, folder: LoopFolder, loop: LoopSettings) -> Night:
    """Release a candidate. After a kill between current.json and nights.json, current.json is decisive."""
    record, verdict, status = folder.record(), night.verdict, "kept"
    tested = night.testable or (loop.canary.explore and verdict == "inconclusive")
    if night.night in (*record.rolled_back, *record.withdrawn):
        verdict = f"{verdict} (rolled back)"
    elif night.night in record.promoted:
        status = "promoted"
    elif record.canary is not None and record.canary.night == night.night:
        status = "canary"
    elif loop.release == "promote" and verdict == "candidate":
        folder.promote(night.night)
        status = "promoted"
    elif loop.release == "canary" and tested:
        folder.begin_canary(night.night, loop.canary.share, round(1000 * time.time()))
        status = "canary"
    elif verdict == "candidate":
        verdict = "candidate (loop.release: none)"
    return night.model_copy(update={"status": status, "why": f"{verdict}. {night.why}"})
