"""Contenders side by side: a repetition runs each once, one after another, so that all meet the same machine."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

#: Does its share of the work; returns its seconds where it times itself (another process), else None.
Contender = Callable[[], Any]


@dataclass(frozen=True)
class Comparison:
    """Rates by contender, a number a repetition, and of which pairs (mine, other) the ratio is asked."""

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


def options(description: str | None, repetitions: int = 5) -> argparse.ArgumentParser:
    """What every benchmark is told: the data set, how often, and where to write the JSON."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a prepared data set")
    parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--json", help="file for rates, ratios, settings and the machine's description")
    return parser


def report(found: Sequence[Comparison], arguments: argparse.Namespace, **more: Any) -> None:
    """Prints the tables; writes the JSON where one is asked for. Paths are left out of it."""
    for comparison in found:
        print(comparison.table(), flush=True)
    if arguments.json:
        settings = {k: v for k, v in vars(arguments).items() if k not in ("dataset", "json", "logs", "d3rlpy")}
        result = {"machine": machine(), "settings": settings, **more, "found": [one.to_dict() for one in found]}
        Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n")
