"""`prefrec nightly` is killed at 40 random moments; the current policy is the old one or the new one after each.

pytest -m slow -s tests/nightly/test_forty_kills.py prints the table of docs/results/verification.md.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from platform_desk import Desk
from small_platform import NETWORKS, logs_and_data

from prefrec_ray.cli.main import run as prefrec
from prefrec_ray.nightly.folder import LoopFolder
from prefrec_ray.serving.requests.bodies import Recommend
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

SCRIPT = Path(__file__).with_name("night_of_a_candidate.py")
STAGES = ("prepare", "train", "evaluate", "report", "release")
#: A night that has promoted its policy, and that removes files of old nights.
AFTER = "after release"
#: All stages of a night in order; kills do not aim at the first two.
ORDER = ("check", "look", *STAGES, AFTER)
KILLS, OF_EACH_STAGE = 40, 5
#: Every process that a night starts has this in its environment.
MARK = "PREFREC_KILLED_NIGHT"


class Nights:
    """The loop of a small platform in `folder`, and the processes of its nights."""

    def __init__(self, folder: Path) -> None:
        self.home, self.mark = folder, uuid.uuid4().hex
        self.ray = Path(f"/tmp/nights-{self.mark[:6]}")  # short: the paths of sockets have a limit
        self.loop = LoopFolder(str(folder / "loop"))
        self.config = self.write_config(folder / "loop")
        simulate(parse(SimulateSettings, logs_and_data(str(folder))["simulate"], "test"), f"{folder}/logs")

    def write_config(self, loop: Path) -> Path:
        """The YAML of a loop. No request is new after the first night: later nights are accepted."""
        config = {**NETWORKS, "num_epochs": 0.2, "updates_per_iteration": 4}
        sections = logs_and_data(str(self.home)) | {
            "train": {"validation": None, "checkpoint_every": 1, "config": config},
            "evaluate": {"estimators": ["model"], "model": {"models": 2, "users": 10, "requests": 30}},
            "loop": {"folder": str(loop), "release": "promote", "keep": 3, "accept": list(range(1, 100))},
        }
        file = loop.with_suffix(".yaml")
        file.write_text(yaml.safe_dump(sections))
        return file

    def start(self, config: Path) -> subprocess.Popen[bytes]:
        """Start a night in a session of its own."""
        environment = {**os.environ, MARK: self.mark, "RAY_TMPDIR": str(self.ray), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        self.ray.mkdir(exist_ok=True)
        with (self.home / "output").open("ab") as output:
            command = [sys.executable, str(SCRIPT), str(config)]
            return subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)

    def kill(self, night: subprocess.Popen[bytes]) -> None:
        """Send SIGKILL to the process group, then to processes of Ray in other groups."""
        with suppress(ProcessLookupError):
            os.killpg(night.pid, signal.SIGKILL)
        night.wait()
        while left := self._processes():
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
        shutil.rmtree(self.ray, ignore_errors=True)

    def _processes(self) -> list[int]:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
        return found

    def end(self, config: Path) -> None:
        """Run a night to its end."""
        night = self.start(config)
        status = night.wait()
        self.kill(night)
        assert status == 0, (self.home / "output").read_text()[-6000:]

    def stage(self) -> tuple[int, str]:
        """Return the newest night and its stage."""
        file = Path(self.loop.uri, "nights.json")
        last = json.loads(file.read_text().splitlines()[-1]) if file.exists() else {"night": 0, "done": []}
        return last["night"], ORDER[len(last["done"])]


def seconds(nights: Nights) -> dict[str, float]:
    """Run a night undisturbed. Returns the length of each stage."""
    before, _ = nights.stage()
    night, begun = nights.start(nights.config), {}
    while night.poll() is None:
        number, stage = nights.stage()
        if number > before:
            begun.setdefault(stage, time.monotonic())
        time.sleep(0.005)
    nights.kill(night)
    assert night.returncode == 0, (nights.home / "output").read_text()[-6000:]
    following = dict(zip(STAGES, (*STAGES[1:], AFTER), strict=True))
    for stage in reversed(STAGES):  # a stage shorter than the pause between two looks was not seen
        begun.setdefault(stage, begun[following[stage]])
    return {stage: begun[following[stage]] - begun[stage] for stage in STAGES}


def kill_in(nights: Nights, target: str, after: float) -> tuple[int, str]:
    """Kill a night `after` seconds in its stage `target`. Returns the night, and the stage that it was in."""
    before, stage = nights.stage()
    night = nights.start(nights.config)
    while night.poll() is None:
        number, stage = nights.stage()
        if (number > before or before == 0 or stage != AFTER) and ORDER.index(stage) >= ORDER.index(target):
            break
        time.sleep(0.001 if stage == "report" else 0.05)  # promotion takes hundredths of a second
    time.sleep(after)
    nights.kill(night)
    return nights.stage()


def check(nights: Nights, number: int, stage: str, old: tuple[int, ...]) -> str:
    """Return which policy is current after a kill in this stage, `old` or `new`; serve it and roll it back."""
    new = (*old, number)
    promoted = nights.loop.record().promoted
    if promoted not in (old, new) or (promoted == new) < (stage == AFTER):
        return f"inconsistent: {promoted} in {stage}"
    desk = Desk(nights.loop.current, nights.home / f"served {uuid.uuid4().hex}")
    shown = desk.one(Recommend(user=1, k=1))
    desk.stop()
    copy = LoopFolder(str(nights.home / "copy"))
    shutil.rmtree(copy.uri, ignore_errors=True)
    shutil.copytree(nights.loop.uri, copy.uri, ignore=shutil.ignore_patterns("dataset"))
    back = copy.back()
    found = (len(shown["items"]), back, copy.record().promoted)
    if found != (1, (promoted[-1], promoted[-2], []), promoted[:-1]):
        return f"inconsistent: {found} in {stage}"
    if stage == "release":  # the night that goes on promotes its policy, unless that was rolled back
        nights.end(nights.write_config(nights.home / "copy"))
        expected = old if promoted == new else (*old[:-1], number)
        if copy.record().promoted != expected:
            return f"inconsistent: {copy.record().promoted} after a rollback, expected {expected}"
    return "new" if promoted == new else "old"


def show(counts: Counter[tuple[str, str]]) -> None:
    """Print the table."""
    outcomes = ["old", "new", *sorted({outcome for _, outcome in counts} - {"old", "new"})]
    print("\n| killed in | kills |", " | ".join(outcomes), "|")
    for stage in (*STAGES, AFTER):
        found = [counts[stage, outcome] for outcome in outcomes]
        print("|", " | ".join(map(str, (stage, sum(found), *found))), "|", flush=True)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(10_000)
def test_forty_kills(tmp_path: Path) -> None:
    nights, rng = Nights(tmp_path), random.Random(0)
    counts: Counter[tuple[str, str]] = Counter()
    seconds(nights)
    lengths = seconds(nights)
    print({stage: round(length, 3) for stage, length in lengths.items()}, flush=True)
    while sum(counts.values()) < KILLS or any(kills_in(counts, stage) < OF_EACH_STAGE for stage in STAGES):
        old = nights.loop.record().promoted
        few = [stage for stage in STAGES if kills_in(counts, stage) < OF_EACH_STAGE]
        for target in STAGES if sum(counts.values()) < KILLS else few:
            number, stage = kill_in(nights, target, rng.uniform(0, lengths[target]))
            counts[stage, check(nights, number, stage, old)] += 1
            show(counts)
            if stage == AFTER:
                break
        if stage != AFTER:
            nights.end(nights.config)
        assert nights.loop.record().promoted == (*old, number)
    assert not [outcome for _, outcome in counts if outcome not in ("old", "new")]
    for file in Path(nights.loop.path(old[-1])).rglob("*.*"):  # the night before the current one
        if file.is_file():
            file.write_bytes(b"damaged")
    (tmp_path / "output").unlink()
    nights.end(nights.config)
    warnings = [line for line in (tmp_path / "output").read_text().splitlines() if "skipped in the mean Q" in line]
    assert len(warnings) == 1
    assert prefrec(["rollback", nights.loop.uri]) == 0


def kills_in(counts: Counter[tuple[str, str]], stage: str) -> int:
    return sum(kills for (place, _), kills in counts.items() if place == stage)
