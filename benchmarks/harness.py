"""What sections share: contenders side by side, the data they meet, the product's commands, and the JSON.

A repetition runs each contender once, one after another, so that all meet the same machine.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import machine

#: Where the standard data and what sections write lie.
FOLDER = Path("bench")
#: The sections of `make bench`, and what of FOLDER each is told.
STANDARD = {
    "training": ["dataset"],
    "data_path": ["dataset"],
    "reward": ["dataset"],
    "learners": ["dataset"],
    "evaluation": ["dataset"],
    "sessions": ["large_logs"],
    "simulator": [],
    "peers": ["dataset"],
    "step_time": ["dataset"],
}
#: 390,000 transitions in 16 shards, so that lanes move on from shard to shard; and 4 million requests for `sessions`:
#: what Ray takes to start its tasks is then little beside the work.
WORLDS = {"logs": {"users": 2000, "requests": 250}, "large_logs": {"users": 16_000, "requests": 250, "shards": 16}}
#: Arguments that are places of this machine: they stay out of the JSON.
_PLACES = ("dataset", "logs", "json", "d3rlpy", "work", "output", "folder", "scratch", "plot", "evaluation", "config")

#: Does its share of the work; returns its seconds where it times itself (another process), else None.
Contender = Callable[[], Any]


@dataclass(frozen=True)
class Comparison:
    """Rates by contender, a number a repetition, and the pairs (mine, other) of which the ratio is told."""

    title: str
    unit: str
    rates: dict[str, list[float]]
    pairs: tuple[tuple[str, str], ...]

    def ratios(self) -> dict[str, float]:
        """Medians of the ratios within repetitions: neighbours in time are compared."""
        return {
            f"{mine} / {other}": statistics.median(
                a / b for a, b in zip(self.rates[mine], self.rates[other], strict=True)
            )
            for mine, other in self.pairs
            if mine in self.rates and other in self.rates
        }

    def table(self) -> str:
        """Medians with their range, then ratios."""
        lines = [f"{self.title} ({self.unit}; median, smallest and largest of {len(next(iter(self.rates.values())))})"]
        for name, values in self.rates.items():
            middle, low, high = map(_short, (statistics.median(values), min(values), max(values)))
            lines.append(f"  {name:32} {middle:>12}  ({low} to {high})")
        lines += [f"  {name:46} {ratio:.2f}" for name, ratio in self.ratios().items()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ratios": self.ratios()}


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def interleave(contenders: Mapping[str, Contender], amount: float, repetitions: int) -> dict[str, list[float]]:
    """Rates (`amount` over seconds) of each, a number a repetition, after one that is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for name, run in contenders.items():
            begin = time.perf_counter()
            own = run()
            seconds = own if isinstance(own, float) else time.perf_counter() - begin
            if repetition:
                rates[name].append(amount / seconds)
    return rates


def options(description: str | None, dataset: bool = False, repetitions: int = 0) -> argparse.ArgumentParser:
    """The parser of a section: where to write the JSON, whether it takes a data set, how often it repeats itself."""
    parser = argparse.ArgumentParser(
        description=inspect.cleandoc(description or ""), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=FOLDER / f"{parser.prog}.json")
    if dataset:
        parser.add_argument("dataset", help="a prepared data set (of `sessions` a log)")
    if repetitions:
        parser.add_argument("--repetitions", type=int, default=repetitions)
    return parser


def report(compared: Sequence[Comparison], arguments: argparse.Namespace, **more: Any) -> None:
    """Prints the tables and writes the JSON."""
    for comparison in compared:
        print(comparison.table(), flush=True)
    write(arguments, **more, comparisons=[one.to_dict() for one in compared])


def write(arguments: argparse.Namespace, **result: Any) -> None:
    """Writes the section's JSON: the machine, the settings and what was measured."""
    settings = {key: value for key, value in vars(arguments).items() if key not in _PLACES}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "settings": settings, **result}
    arguments.json.write_text(json.dumps(content, indent=1, default=str) + "\n")


def prefrec(*arguments: str) -> None:
    """A command of the product, in a process of its own. Ends the benchmark where it fails."""
    print("prefrec", *arguments, flush=True)
    done = subprocess.run([sys.executable, "-m", "prefrec_ray.cli.main", *arguments], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(done.returncode)


def standard_data() -> None:
    """Makes FOLDER/logs, /large_logs and /dataset where they are missing."""
    FOLDER.mkdir(exist_ok=True)
    for name, world in WORLDS.items():
        config, logs, dataset = FOLDER / f"{name}.yaml", FOLDER / name, FOLDER / "dataset"
        prepare = {"source": {"kind": "simulator", "path": str(logs)}}
        config.write_text(yaml.safe_dump({"simulate": world, "prepare": prepare}, sort_keys=False))
        if not logs.exists():
            prefrec("simulate", str(config), "--output", str(logs))
        if name == "logs" and not dataset.exists():
            prefrec("prepare", str(config), "--output", str(dataset))
