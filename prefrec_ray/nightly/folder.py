"""The folder of a loop: its nights, and the record of the policies that were promoted.

FOLDER/nights.json     one line (JSON) per night
FOLDER/current.json    the alias (storage/alias.py) of the current policy, with the canary, and the nights that were
                       promoted, withdrawn or rolled back
FOLDER/nights/0003/    dataset/  run/  report.html; run/averaged is run/policy with the mean Q of some nights
                       (average.py)

`current.json` is the only file that decides what is served. It is replaced in one write, so that after a kill every
transition is complete or has not happened: no canary -> canary -> promoted or withdrawn; promoted -> rolled back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.nightly.check import NightCounts
from prefrec_ray.nightly.release import Look
from prefrec_ray.policy import Policy
from prefrec_ray.serving.settings import Canary, NightRecord
from prefrec_ray.settings import Settings, parse
from prefrec_ray.storage import checksums
from prefrec_ray.storage.alias import point, read_alias

#: `waiting`: the night trained nothing, because the canary of an earlier night goes on.
Status = Literal["unfinished", "waiting", "canary", "promoted", "withdrawn", "kept", "refused", "failed"]
Step = Literal["check", "look", "prepare", "train", "evaluate", "report", "release"]
STEPS: tuple[Step, ...] = ("check", "look", "prepare", "train", "evaluate", "report", "release")
#: The policy that a night trains, in its folder.
TRAINED = "run/policy"
#: Seconds to wait for a rollback or a night that changes the files of the loop.
_PATIENCE = 60.0


class Night(Settings):
    """One line of nights.json. `began` is UTC, `settings` a digest of the YAML's sections, `done` the finished steps.

    `policy` is the bundle with this verdict, in the night's folder. It is `testable` by a canary if it is a candidate
    apart from open guard-rails. `gain` and its 95 % interval are the difference to the logging policy in levels, by the
    estimate behind the verdict.
    """

    night: int
    began: str
    settings: str
    status: Status = "unfinished"
    why: str = ""
    verdict: str | None = None
    testable: bool = False
    policy: str = TRAINED
    gain: float | None = None
    gain_ci_low: float | None = None
    gain_ci_high: float | None = None
    done: tuple[Step, ...] = ()
    log: NightCounts | None = Field(default=None, description="the new impressions")
    logs: tuple[str, ...] = Field(default=(), description="ids of the event logs, in the order of `log`")
    look: Look | None = Field(default=None, description="the look at the canary of an earlier night")

    @property
    def line(self) -> str:
        """Return the night as one line of text."""
        parts = [f"night {self.night}: {self.status}"]
        if self.log is not None:
            parts.append(f"{self.log.requests:,} new impressions of {self.log.users:,} users")
        if self.look is not None:
            parts.append(self.look.line)
        return f"{', '.join(parts)}; {self.why}" if self.why else ", ".join(parts)


class Rollback(NamedTuple):
    """The nights that were current before and after a rollback, and the reasons for skipped nights between them."""

    before: int
    after: int
    skipped: list[str]


@dataclass(frozen=True)
class LoopFolder:
    """The folder at `uri`."""

    uri: str

    @property
    def current(self) -> str:
        """Return the alias of the policy that is served."""
        return storage.join(self.uri, "current")

    def bundle(self, canary: Canary) -> str:
        return storage.join(self.uri, canary.target)

    def path(self, night: int, *parts: str) -> str:
        """Return a file or folder of a night."""
        return storage.join(self.uri, "nights", f"{night:04d}", *parts)

    def nights(self) -> list[Night]:
        """Return all nights, oldest first. Raises `UserError` for a damaged file."""
        file = storage.join(self.uri, "nights.json")
        if not storage.exists(file):
            return []
        lines = enumerate(storage.read_text(file).splitlines(), 1)
        return [parse(Night, checksums.open_json(line, file, at), f"{file}: line {at}") for at, line in lines]

    def write(self, night: Night) -> None:
        """Write the line of a night, new or changed; the file is replaced in one write."""
        with self._claimed():
            nights = {one.night: one for one in self.nights()} | {night.night: night}
            lines = [checksums.seal_json(one.model_dump(mode="json")) + "\n" for one in nights.values()]
            file = storage.make_room(storage.join(self.uri, "nights.json"))
            storage.write_text(file, "".join(lines))

    def record(self) -> NightRecord:
        """Return the record of promotions, empty in a new folder. Raises `UserError` for a damaged file."""
        return parse(NightRecord, read_alias(self.current) or {}, f"{self.current}.json")

    def promote(self, night: int) -> None:
        """Make the policy of `night` the current one. Called again, it changes nothing."""
        with self._claimed():
            record = self.record()
            if night not in record.released:
                self._write(record.model_copy(update={"promoted": (*record.promoted, night)}))

    def begin_canary(self, night: int, share: float, began: int) -> None:
        """Make the policy of `night` the canary. Called again, it changes nothing."""
        with self._claimed():
            record = self.record()
            if record.canary is None and night not in record.released:
                canary = Canary(night=night, target=self._target(night), share=share, began=began)
                self._write(record.model_copy(update={"canary": canary}))

    def carry_out(self, look: Look) -> bool:
        """Promote, withdraw or extend the canary, and correct the line of its night. Repeatable after a kill.

        Returns False if this canary has ended.
        """
        with self._claimed():
            record = self.record()
            canary = record.canary if record.canary and record.canary.night == look.night else None
            if canary is not None:
                changes: dict[str, object] = {"canary": None}
                if look.decision == "promote":
                    changes["promoted"] = (*record.promoted, look.night)
                elif look.decision == "withdraw":
                    changes["withdrawn"] = (*record.withdrawn, look.night)
                else:
                    changes["canary"] = canary.model_copy(update={"share": look.share})
                self._write(record.model_copy(update=changes))
        self._mark_released()
        return canary is not None

    def withdraw(self) -> int | None:
        """Withdraw the canary by hand. Returns its night, or None without a canary; raises `UserError` like `back`."""
        self._check_exists()
        while (canary := self.record().canary) is not None:
            if self.carry_out(Look(night=canary.night, decision="withdraw", why="by hand", share=0.0)):
                return canary.night
        return None

    def _mark_released(self) -> None:
        """Set the status of nights whose canary has ended."""
        record = self.record()
        for night in self.nights():
            if night.status == "canary" and night.night in (*record.promoted, *record.withdrawn):
                status = "promoted" if night.night in record.promoted else "withdrawn"
                self.write(night.model_copy(update={"status": status}))

    def back(self) -> Rollback:
        """Roll back to the newest earlier policy that can be loaded.

        Raises `UserError` if there is none; then nothing is changed.
        """
        self._check_exists()
        with self._claimed():
            record = self.record()
            skipped: list[str] = []
            if not record.promoted:
                raise UserError(f"{self.uri}: nothing to roll back: no policy was promoted")
            *before, current = record.promoted
            if not before:
                raise UserError(f"{self.uri}: nothing to roll back: current is the first policy (night {current})")
            while before:
                flaw = self._flaw(before[-1])
                if flaw is None:
                    gone = (*record.rolled_back, *record.promoted[len(before) :])
                    self._write(record.model_copy(update={"promoted": tuple(before), "rolled_back": gone}))
                    return Rollback(current, before[-1], skipped)
                skipped.append(f"night {before.pop()}: {flaw}")
            raise UserError(f"{self.uri}: nothing to roll back to: {'; '.join(skipped)}")

    def _check_exists(self) -> None:
        if not storage.exists(self.uri):  # a lock would create it
            raise UserError(f"{self.uri}: no such folder; expected the folder of a loop")

    def _flaw(self, night: int) -> str | None:
        """Return why the policy of `night` cannot be served, or None if it can."""
        bundle = storage.join(self.uri, self._target(night))
        if not storage.exists(storage.join(bundle, "policy.json")):
            return "its policy was removed (loop.keep)"
        try:
            Policy.load(bundle)
        except UserError as error:
            return f"its policy is damaged ({error})"
        return None

    def _write(self, record: NightRecord) -> None:
        target = self._target(record.promoted[-1]) if record.promoted else ""
        point(self.current, target, **record.model_dump(mode="json", exclude={"target"}))

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Keep other processes from changing current.json and nights.json. Waits for them: a change takes seconds."""
        limit = time.monotonic() + _PATIENCE
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(storage.claimed(self.current))
                    break
                except UserError:
                    if time.monotonic() > limit:
                        raise
                    time.sleep(0.1)
            yield

    def prune(self, keep: int) -> None:
        """Remove the files of old nights, except the newest `keep`, the current and previous policy, and the canary."""
        record = self.record()
        canary = set() if record.canary is None else {record.canary.night}
        folders = storage.list_folders(storage.join(self.uri, "nights"))
        made = [night.night for night in self.nights() if self.path(night.night) in folders]
        kept = {self.path(night) for night in {*made[-keep:], *record.promoted[-2:], *canary}}
        for folder in folders:
            if folder not in kept:
                storage.remove(folder)

    def _target(self, night: int) -> str:
        """Return the bundle of a night, relative to the folder of the loop."""
        bundles = {one.night: one.policy for one in self.nights()}
        return f"nights/{night:04d}/{bundles.get(night, TRAINED)}"
