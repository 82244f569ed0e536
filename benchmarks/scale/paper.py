"""The paper's size, whole: `python -m benchmarks paper_scale WORK [--millions 1 3 10 25]`.

Each size (the last is the paper's: 100,000 users, 25 million requests of 245 + 8 numbers) is simulated, prepared and
trained on by the commands of tune_configs/paper_scale.yaml, each in a process of its own; its logs and data set are
removed before the next. All sizes train for as many updates on transitions that are streamed; the last also as the
paper does (3 million in the replay buffer, 3 + 5 epochs), evaluates that policy, and trains for one pass over all
transitions under `robust`. Time, peak memory and disk of each; WORK/memory.svg shows memory against the transitions
seen in the last pass.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import rows_in
from benchmarks.scale.memory import GB, Memory, each_size, folder_gb, stage, write_config
from prefrec_ray.reports.figures import panel, svg

CONFIG = Path(__file__).parents[2] / "tune_configs" / "paper_scale.yaml"
BATCH = 4096
#: Updates at every size, and of an iteration of them.
UPDATES, UPDATES_PER_ITERATION = 100, 10


def progress_rows(file: Path) -> list[dict[str, str]]:
    """Return the iterations that a run has written; none while a row is being written."""
    return [row for row in rows_in(file) if row["time_total_s"]]


def seen(progress: Path) -> int:
    """Transitions that a run has learned from."""
    rows = progress_rows(progress)
    return BATCH * int(rows[-1]["updates"] or 0) if rows else 0


def train(config: str, dataset: Path, run: Path, *changes: str) -> tuple[dict[str, Any], Memory]:
    """A stage of training; the median rate of its iterations and the share of time spent waiting for data."""
    command = "train", config, "--dataset", str(dataset), "--output", str(run), *changes
    took, memory = stage(*command, place=partial(seen, run / "progress.csv"))
    rows = [row for row in progress_rows(run / "progress.csv") if row["phase"] == "train"]
    rate, wait = (
        statistics.median(float(row[name]) for row in rows)
        for name in ("transitions_per_second", "time/data_wait_share")
    )
    took |= {
        "transitions": BATCH * int(rows[-1]["updates"]),
        "transitions_per_second": round(rate),
        "data_wait_share": round(wait, 4),
    }
    return took, memory


def stages(million: float, work: Path, whole: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """All stages at one size, by name; with `whole` the paper's training and the pass over everything too."""
    folder = work / f"{million:g}"
    logs, dataset = folder / "logs", folder / "dataset"
    config = write_config(yaml.safe_load(CONFIG.read_text()), million, str(logs), folder)
    simulated, _ = stage("simulate", config, "--output", str(logs))
    yield "simulate", {**simulated, "disk_gb": folder_gb(logs)}
    prepared, _ = stage("prepare", config, "--output", str(dataset))
    counts = json.loads((dataset / "metadata.json").read_text())["counts"]
    requests = sum(split["requests"] for split in counts.values())
    transitions = counts["train"]["transitions"]
    yield "prepare", {**prepared, "disk_gb": folder_gb(dataset), "requests": requests, "transitions": transitions}
    streamed = "transitions=streaming", "replay_buffer_size=null"
    short = f"num_epochs={UPDATES * BATCH / transitions:.6f}", f"updates_per_iteration={UPDATES_PER_ITERATION}"
    yield "train, as many updates", train(config, dataset, folder / "short", *streamed, *short, "pretrain_epochs=0")[0]
    if whole:
        yield "train, the paper's buffer", train(config, dataset, folder / "buffer", "num_epochs=5")[0]
        evaluated, _ = stage("evaluate", str(folder / "buffer" / "policy"), "--dataset", str(dataset))
        yield "evaluate", {**evaluated, "requests": counts["test"]["requests"]}
        once, memory = train(config, dataset, folder / "stream", "recipe=robust", "num_epochs=1", *streamed)
        yield "train on all, streamed", once
        draw(memory, work / "memory.svg")
    shutil.rmtree(logs)
    shutil.rmtree(dataset)


def draw(memory: Memory, file: Path) -> None:
    """Memory against the transitions seen, as SVG."""
    own, shared, transitions = zip(*memory.samples, strict=True)
    figure, axes = panel("Streaming: memory while learning", "transitions seen, millions", "GB", width=6.5)
    millions = [value / 1e6 for value in transitions]
    for values, label in ((own, "processes' own"), (shared, "object store")):
        axes.plot(millions, [value / GB for value in values], label=label)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    file.write_bytes(svg(figure))


def main(work: Path, millions: Sequence[float] = (1, 3, 10, 25)) -> Iterator[dict[str, Any]]:
    """Prints a line a stage, after which the JSON is written again."""
    yield from each_size(millions, lambda million: stages(million, work, million == millions[-1]))
