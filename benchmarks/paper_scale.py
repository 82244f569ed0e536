"""The paper's size, whole: `python -m benchmarks.paper_scale WORK [--millions 1 3 10 25] [--json FILE] [--plot FILE]`.

Each size (the last is the paper's: 100,000 users, 25 million requests of 245 + 8 numbers) is simulated, prepared and
trained on by the commands of tune_configs/paper_scale.yaml, each in a process of its own; its logs and data set are
removed before the next. All sizes train for as many updates on transitions that are streamed; the last also as the
paper does (3 million in the replay buffer, 3 + 5 epochs), evaluates that policy, and trains for one pass over all
transitions under `robust`. Time, peak memory and disk of each; memory against the transitions seen in the last pass.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.commands import prefrec
from benchmarks.machine import machine
from benchmarks.prepare_memory import GB, folder_gb, memory_in_use
from benchmarks.script import run
from prefrec_ray.reports.style import panel, svg

CONFIG = Path(__file__).parents[1] / "tune_configs" / "paper_scale.yaml"
REQUESTS_A_USER = 250
BATCH = 4096
#: Updates at every size, and of an iteration of them.
UPDATES, UPDATES_PER_ITERATION = 100, 10
#: Between samples: looking through the maps of all processes takes a tenth of a second.
_SECONDS = 1.0


class Trace(threading.Thread):
    """Memory of this process and its descendants until `stop` is set: (private, shared, transitions seen) a sample."""

    def __init__(self, progress: Path | None = None) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.samples: list[tuple[int, int, int]] = []
        self._progress = progress

    def run(self) -> None:
        """A sample a second."""
        while not self.stop.wait(_SECONDS):
            self.samples.append((*memory_in_use({}), self._seen()))

    def _seen(self) -> int:
        rows = progress_rows(self._progress) if self._progress else []
        return BATCH * int(rows[-1]["updates"] or 0) if rows else 0


def progress_rows(file: Path) -> list[dict[str, str]]:
    """What a run has written of its iterations; nothing while a row is being written."""
    if not file.exists():
        return []
    with file.open() as stream:
        return [row for row in csv.DictReader(stream) if row["time_total_s"]]


def stage(command: list[str], progress: Path | None = None) -> tuple[dict[str, Any], Trace]:
    """Runs one command of the product. Seconds, and peaks of memory in GB. Ends the benchmark where it fails."""
    trace = Trace(progress)
    trace.start()
    began = time.monotonic()
    prefrec(*command)
    seconds = time.monotonic() - began
    trace.stop.set()
    trace.join()
    private, shared, _ = zip(*trace.samples, strict=True)
    found = {
        "seconds": round(seconds, 1),
        "peak_gb": round(max(a + b for a, b in zip(private, shared, strict=True)) / GB, 2),
        "peak_object_store_gb": round(max(shared) / GB, 2),
    }
    return found, trace


def train(config: Path, dataset: Path, run: Path, *changes: str) -> tuple[dict[str, Any], Trace]:
    """A stage of training; the median rate of its iterations and the waiting for data beside it."""
    command = ["train", str(config), "--dataset", str(dataset), "--output", str(run), *changes]
    found, trace = stage(command, run / "progress.csv")
    rows = [row for row in progress_rows(run / "progress.csv") if row["phase"] == "train"]
    rate, wait = (
        statistics.median(float(row[name]) for row in rows)
        for name in ("transitions_per_second", "time/data_wait_share")
    )
    found |= {
        "transitions": BATCH * int(rows[-1]["updates"]),
        "transitions_per_second": round(rate),
        "data_wait_share": round(wait, 4),
    }
    return found, trace


def measure(million: float, work: Path, whole: argparse.Namespace | None, done: Callable[..., None]) -> None:
    """All stages at one size; with `whole` (its options) the paper's training and the pass over everything too.

    Tells each stage to `done`.
    """
    folder = work / f"{million:g}"
    folder.mkdir(parents=True)
    sections = yaml.safe_load(CONFIG.read_text())
    logs, dataset, config = folder / "logs", folder / "dataset", folder / "config.yaml"
    sections["simulate"]["users"] = round(million * 1e6 / REQUESTS_A_USER)
    sections["prepare"]["source"]["path"] = str(logs)
    config.write_text(yaml.safe_dump(sections, sort_keys=False))
    simulated, _ = stage(["simulate", str(config), "--output", str(logs)])
    done("simulate", **simulated, disk_gb=round(folder_gb(logs), 2))
    prepared, _ = stage(["prepare", str(config), "--output", str(dataset)])
    counts = json.loads((dataset / "metadata.json").read_text())["counts"]
    requests = sum(split["requests"] for split in counts.values())
    transitions = counts["train"]["transitions"]
    done("prepare", **prepared, disk_gb=round(folder_gb(dataset), 2), requests=requests, transitions=transitions)
    streamed = "transitions=streaming", "replay_buffer_size=null"
    short = f"num_epochs={UPDATES * BATCH / transitions:.6f}", f"updates_per_iteration={UPDATES_PER_ITERATION}"
    some, _ = train(config, dataset, folder / "short", *streamed, *short, "pretrain_epochs=0")
    done("train, as many updates", **some)
    if whole:
        paper, _ = train(config, dataset, folder / "buffer", f"num_epochs={whole.epochs}")
        done("train, the paper's buffer", **paper)
        evaluated, _ = stage(["evaluate", str(folder / "buffer" / "policy"), "--dataset", str(dataset)])
        done("evaluate", **evaluated, requests=counts["test"]["requests"])
        once, trace = train(
            config, dataset, folder / "stream", "recipe=robust", f"num_epochs={whole.passes}", *streamed
        )
        done("train on all, streamed", **once, trace=trace_rows(trace))
        if whole.plot:
            draw(trace, whole.plot)
    shutil.rmtree(logs)
    shutil.rmtree(dataset)


def trace_rows(trace: Trace, count: int = 200) -> list[list[float]]:
    """(transitions seen, GB of the processes' own memory, GB of the object store), thinned to about `count`."""
    step = max(1, len(trace.samples) // count)
    return [[seen, round(own / GB, 3), round(shared / GB, 3)] for own, shared, seen in trace.samples[::step]]


def draw(trace: Trace, file: Path) -> None:
    """Memory against the transitions seen, as SVG."""
    own, shared, seen = zip(*trace.samples, strict=True)
    figure, axes = panel("Streaming: memory while learning", "transitions seen, millions", "GB", width=6.5)
    millions = [value / 1e6 for value in seen]
    for values, label in ((own, "processes' own"), (shared, "object store")):
        axes.plot(millions, [value / GB for value in values], label=label)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    file.write_bytes(svg(figure))


def main() -> None:
    """Prints a line a stage, after which the JSON is written again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--millions", nargs="+", type=float, default=[1, 3, 10, 25])
    parser.add_argument("--epochs", type=float, default=5, help="over the paper's buffer")
    parser.add_argument("--passes", type=float, default=1, help="over all transitions")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "sizes": {}}
    for million in arguments.millions:
        at = found["sizes"][f"{million:g}"] = {}

        def done(name: str, at: dict[str, Any] = at, million: float = million, **about: Any) -> None:
            at[name] = about
            shown = {key: value for key, value in about.items() if key != "trace"}
            print(f"{million:g} million requests  {name:26} {shown}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(found, indent=1) + "\n")

        measure(million, arguments.work, arguments if million == arguments.millions[-1] else None, done)


if __name__ == "__main__":
    run(main)
