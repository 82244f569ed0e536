"""All benchmarks of speed one after another, or one section with its own arguments.

    python -m benchmarks                        the sections of `make bench`, on a simulated data set
    python -m benchmarks training reward        some of it
    python -m benchmarks SECTION ARGUMENTS      one section; SECTION --help lists its arguments

Each prints its table and writes bench/SECTION.json. A user's mistake is one line and exit status 2.
"""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import import_module
from itertools import takewhile

from benchmarks.harness import FOLDER, make_data, run_section
from prefrec_ray.errors import find_user_error

#: Module and function of each section.
SECTIONS = {
    "training": "speed.training:main",
    "start": "speed.start:main",
    "streaming_split": "speed.ray_data:main",
    "reward": "speed.parts:reward",
    "learners": "speed.parts:learners",
    "sessions": "speed.sessions:main",
    "load": "speed.load:main",
    "candidates": "speed.candidates:main",
    "request_parts": "speed.request_parts:main",
    "users": "speed.users:main",
    "labeling": "speed.labeling:main",
    "peers": "peers.rates:main",
    "fixed_points": "peers.fixed_points:main",
    "pages": "peers.pages:main",
    "paper_scale": "scale.paper:main",
    "largest": "scale.largest:main",
    "truth": "truth.bench:main",
    "rules": "truth.rules:main",
    "disagreement": "truth.disagreement:main",
    "power": "truth.power:main",
    "estimators": "truth.estimators:main",
    "verdicts": "truth.verdicts:main",
    "crowd": "truth.crowd:main",
    "loop": "truth.loop:main",
    "results": "results:main",
}
#: The sections of `make bench`, and what of FOLDER each takes.
STANDARD = {name: ["dataset"] for name in ("training", "reward", "learners")}
STANDARD |= {"sessions": ["large_logs"], "start": [], "peers": ["dataset"]}
#: 390,000 transitions in 16 shards, so that lanes move on from shard to shard; and 4 million requests for `sessions`:
#: starting Ray's tasks then takes little of the time.
WORLDS = {"logs": {"users": 2000, "requests": 250}, "large_logs": {"users": 16_000, "requests": 250, "shards": 16}}


def main() -> None:
    """Runs the sections; exits with status 1 if one of several fails."""
    names = list(takewhile(SECTIONS.__contains__, sys.argv[1:]))
    rest = sys.argv[1 + len(names) :]
    if len(names) == 1 and (rest or not STANDARD.get(names[0])):
        run(names[0], rest)
    elif rest or not set(names) <= set(STANDARD):
        sys.exit(f"{__doc__}\nSections: {', '.join(SECTIONS)}.\nThe first form has {', '.join(STANDARD)}.")
    else:
        run_standard(names or list(STANDARD))


def run(name: str, arguments: list[str]) -> None:
    """One section in this process."""
    module, function = SECTIONS[name].split(":")
    try:
        run_section(name, getattr(import_module(f"benchmarks.{module}"), function), arguments)
    except Exception as error:
        mistake = find_user_error(error)
        if mistake is None:
            raise
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)


def run_standard(names: list[str]) -> None:
    """Sections on the standard data, each in a process of its own."""
    standard_data()
    failed = []
    for name in names:
        begin = time.monotonic()
        command = [sys.executable, "-m", "benchmarks", name, *(str(FOLDER / part) for part in STANDARD[name])]
        failed += [name] if subprocess.run(command, check=False).returncode else []
        print(f"  [{name}: {time.monotonic() - begin:.0f} s]\n", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def standard_data() -> None:
    """Makes FOLDER/logs, /large_logs and /dataset, as far as they are not there."""
    for name, world in WORLDS.items():
        make_data(name, world, "dataset" if name == "logs" else None)


if __name__ == "__main__":
    main()
