"""Shared parts of the sections: their arguments, contenders side by side, tables, the product's commands, and the JSON.

A section is a function: its parameters are its arguments on the command line, and what it returns (or yields, each time
more of it) is written to bench/SECTION.json. A repetition of a comparison runs each contender once, one after another,
so that all meet the same machine.
"""

from __future__ import annotations

import argparse
import csv
import inspect
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import GeneratorType
from typing import Any, get_args

import psutil
import ray
import torch
import yaml
from threadpoolctl import threadpool_limits

from benchmarks.results import git

#: Folder of the standard data and of the sections' output.
FOLDER = Path("bench")

#: Does its share of the work; returns its seconds if it times itself (another process), else no float.
Contender = Callable[[], Any]


@dataclass(frozen=True)
class Comparison:
    """Rates by contender, a number a repetition, and the pairs (mine, other) whose ratio is printed."""

    title: str
    unit: str
    rates: dict[str, list[float]]
    pairs: Sequence[tuple[str, str]]

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
        return "\n".join(lines + [f"  {name:46} {ratio:.2f}" for name, ratio in self.ratios().items()])


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


def compared(*comparisons: Comparison, **more: Any) -> dict[str, Any]:
    """Prints the tables; returns the section's result."""
    for one in comparisons:
        print(one.table(), flush=True)
    return {**more, "comparisons": [{**asdict(one), "ratios": one.ratios()} for one in comparisons]}


def run_section(name: str, section: Callable[..., Any], words: Sequence[str]) -> None:
    """Reads the arguments of a section from its signature, runs it and writes its JSON."""
    module = inspect.getmodule(section)
    text = module.__doc__ if module and section.__name__ == "main" else section.__doc__
    parser = argparse.ArgumentParser(
        prog=name, description=inspect.cleandoc(text or ""), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=FOLDER / f"{name}.json", help="[default: %(default)s]")
    for parameter in inspect.signature(section, eval_str=True).parameters.values():
        add_argument(parser, parameter)
    given = vars(parser.parse_args(words))
    file = given.pop("json")
    results = section(**given)
    # Places of this machine stay out of the JSON.
    settings = {key: value for key, value in given.items() if not isinstance(value, Path)}
    for result in results if isinstance(results, GeneratorType) else [results]:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"commit": git("rev-parse", "--short", "HEAD"), "machine": machine(), "settings": settings, **result}
        file.write_text(json.dumps(content, indent=1, default=str) + "\n")


def add_argument(parser: argparse.ArgumentParser, parameter: inspect.Parameter) -> None:
    """An argument for a parameter `x: T`, or an option for one with a default; `list[T]` takes several values."""
    kind, default = parameter.annotation, parameter.default
    if kind is bool:
        parser.add_argument(f"--{parameter.name}", action="store_true")
        return
    kind = get_args(kind)[0] if type(None) in get_args(kind) else kind
    several = {"nargs": "+", "type": get_args(kind)[0]} if get_args(kind) else {"type": kind}
    if default is parameter.empty:
        parser.add_argument(parameter.name, **several)
    else:
        parser.add_argument(
            f"--{parameter.name.replace('_', '-')}", default=default, help=f"[default: {default}]", **several
        )


def one_thread() -> None:
    """Let PyTorch and NumPy compute on one thread: in small products two threads wait for each other."""
    torch.set_num_threads(1)
    threadpool_limits(1, "blas")


def prefrec(*arguments: str, folder: Path | None = None) -> None:
    """Run a command of the product in its own process, in `folder` if given. Ends the benchmark if it fails."""
    print("prefrec", *arguments, flush=True)
    command = [sys.executable, "-m", "prefrec_ray.cli.main", *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, cwd=folder)
    if done.returncode:
        sys.exit(done.returncode)


@contextmanager
def serving(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "prefrec_ray.cli.main"),
) -> Iterator[tuple[subprocess.Popen, int]]:
    """Run `prefrec serve` or `prefrec label` on a free port; yield the process and the port."""
    command = [sys.executable, *program, *arguments, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    try:
        lines = iter(process.stdout or [])
        port = next((match[1] for line in lines if (match := re.search(r"ing on \S+:(\d+) ", line))), None)
        if port is None:
            sys.exit(f"prefrec {arguments[0]} did not start")
        yield process, int(port)
    finally:
        process.terminate()
        process.wait()


def make_data(name: str, world: dict[str, Any], dataset: str | None) -> None:
    """Makes the logs FOLDER/name and, with a name for it, the data set of them, as far as they are not there."""
    FOLDER.mkdir(exist_ok=True)
    config, logs = FOLDER / f"{name}.yaml", FOLDER / name
    prepare = {"source": {"kind": "simulator", "path": str(logs)}}
    config.write_text(yaml.safe_dump({"simulate": world, "prepare": prepare}, sort_keys=False))
    if not logs.exists():
        prefrec("simulate", str(config), "--output", str(logs))
    if dataset is not None and not (FOLDER / dataset).exists():
        prefrec("prepare", str(config), "--output", str(FOLDER / dataset))


def rows_in(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file, as texts; none without the file."""
    return list(csv.DictReader(file.read_text("utf-8").splitlines())) if file.exists() else []


def machine() -> dict[str, Any]:
    """Return processor, cores, threads, memory and versions, without names of hosts or paths."""
    file = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in file.read_text().splitlines()] if file.exists() else []
    about = {key.strip(): value.strip() for key, _, value in lines}
    return {
        "processor": about.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "bf16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in about.get("flags", "").split()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": ray.__version__,
    }
