"""The folder of a loop: its nights, which of them are served, and the alias `current`.

FOLDER/nights.json        a line (JSON) a night
FOLDER/promoted.json      the nights that were promoted and not taken back, oldest first; the last one is current
FOLDER/current            the alias (storage/alias.py) of the current policy
FOLDER/nights/0003/       dataset/  run/  report.html; run/averaged is run/policy with the mean Q of some nights
                          (average.py), run/constrained the policy under a rule that the log can vouch for
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.nightly.check import Counted
from prefrec_ray.settings import Settings, parse
from prefrec_ray.storage.alias import point

Status = Literal["unfinished", "promoted", "kept", "refused", "failed"]
Step = Literal["check", "prepare", "train", "evaluate", "report", "promote"]
STEPS: tuple[Step, ...] = ("check", "prepare", "train", "evaluate", "report", "promote")
#: The policy that a night trains, in its folder.
TRAINED = "run/policy"


class Night(Settings):
    """A line of nights.json. `began` is UTC; `settings` a digest of the YAML's sections; `done` the finished steps.

    `policy` is the bundle that the verdict is on, in the night's folder; `gain` and its 95 % interval are over the
    logging policy, in levels, by what the verdict rests on.
    """

    night: int
    began: str
    settings: str
    status: Status = "unfinished"
    why: str = ""
    verdict: str | None = None
    policy: str = TRAINED
    gain: float | None = None
    gain_ci_low: float | None = None
    gain_ci_high: float | None = None
    done: tuple[Step, ...] = ()
    log: Counted | None = Field(default=None, description="the requests that were new")
    logs: tuple[str, ...] = Field(default=(), description="ids of the event logs, in the order that `log` counts by")

    @property
    def line(self) -> str:
        """For readers."""
        parts = [f"night {self.night}: {self.status}"]
        if self.log is not None:
            parts.append(f"{self.log.requests:,} new requests of {self.log.users:,} users")
        return f"{', '.join(parts)}; {self.why}" if self.why else ", ".join(parts)


@dataclass(frozen=True)
class LoopFolder:
    """The folder at `uri`."""

    uri: str

    @property
    def current(self) -> str:
        """The alias of the policy that is served."""
        return storage.join(self.uri, "current")

    def path(self, night: int, *parts: str) -> str:
        """A file or folder of a night."""
        return storage.join(self.uri, "nights", f"{night:04d}", *parts)

    def nights(self) -> list[Night]:
        """All nights, oldest first. Raises `UserError` for a damaged file."""
        file = storage.join(self.uri, "nights.json")
        if not storage.exists(file):
            return []
        nights = []
        for number, line in enumerate(storage.read_text(file).splitlines(), 1):
            nights.append(parse(Night, storage.parse_json(line, file, number), f"{file}: line {number}"))
        return nights

    def write(self, night: Night) -> None:
        """Writes the line of a night, new or changed; the file is replaced whole."""
        nights = {one.night: one for one in self.nights()} | {night.night: night}
        lines = [json.dumps(one.model_dump(mode="json"), allow_nan=False) + "\n" for one in nights.values()]
        file = storage.make_room(storage.join(self.uri, "nights.json"))
        storage.write_text(file, "".join(lines))

    def promoted(self) -> list[int]:
        """The nights that were promoted and not taken back, oldest first."""
        file = self._promoted
        if not storage.exists(file):
            return []
        value = storage.read_json(file)
        if not isinstance(value, list) or not all(isinstance(night, int) for night in value):
            raise UserError(f"{file}: expected a list of nights")
        return value

    def promote(self, night: int) -> None:
        """Makes the policy of `night` the current one. Done again it changes nothing.

        The list is written first: whoever comes between it and the alias sees the old policy, whole.
        """
        with storage.claimed(self.current):
            nights, target = self.promoted(), self._target(night)
            if nights[-1:] != [night]:
                storage.write_json(self._promoted, [*nights, night])
            point(self.current, target)

    def back(self) -> tuple[int, int]:
        """Makes the policy before the current one current again: (the night that was current, the one that is now).

        Raises `UserError` where there is none before, or its files are gone.
        """
        self._several()  # before a claim makes a folder that is not there
        with storage.claimed(self.current):
            *before, gone = self._several()
            target = self._target(before[-1])
            if not storage.exists(storage.join(self.uri, target, "policy.json")):
                raise UserError(f"{self.path(before[-1])}: its policy is gone (loop.keep); expected one to go back to")
            point(self.current, target)  # first: what is done of it at a kill is done again, to the same end
            storage.write_json(self._promoted, before)
            return gone, before[-1]

    def _several(self) -> list[int]:
        """`promoted`. Raises `UserError` for fewer than two."""
        nights = self.promoted()
        if len(nights) < 2:
            found = f"only that of night {nights[0]}" if nights else "none"
            raise UserError(f"{self.uri}: no policy before the current one; found {found}")
        return nights

    def prune(self, keep: int) -> None:
        """Removes the files of all nights but the newest `keep`, the current one and the one before."""
        kept = {night.night for night in self.nights()[-keep:]} | set(self.promoted()[-2:])
        names = {self.path(night) for night in kept}
        for folder in storage.list_folders(storage.join(self.uri, "nights")):
            if folder not in names:
                storage.remove(folder)

    @property
    def _promoted(self) -> str:
        return storage.join(self.uri, "promoted.json")

    def _target(self, night: int) -> str:
        """The bundle of a night, from the folder."""
        bundles = {one.night: one.policy for one in self.nights()}
        return f"nights/{night:04d}/{bundles.get(night, TRAINED)}"
