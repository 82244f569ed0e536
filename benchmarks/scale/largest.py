"""The largest run that fits: `python -m benchmarks largest WORK --millions 1 10 30`.

A log goes through `prepare`, `train` (one pass over all transitions, streamed) and `evaluate`, each size in turn; logs
and data set of a size are removed before the next. States are narrow, so that the disk holds many: one kind of feedback
and embeddings of two numbers, learned from the log. At the smallest size each stage runs twice, the second time with a
kill, and the results must be equal; at the largest each stage runs once, with a kill. `prepare` and `evaluate` lose a
process in the middle of a task, which Ray repeats; `train` loses its driver after half of its iterations, and is
resumed. Time, processor time, peak memory and disk of each.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import prefrec, rows_in
from benchmarks.scale.memory import REQUESTS_A_USER, Watch, each_size, folder_gb, stage, write_config
from prefrec_ray.errors import UserError

#: Seconds between two looks for the process to kill.
SECONDS = 0.2
SECTIONS: dict[str, Any] = {
    "simulate": {"requests": REQUESTS_A_USER, "items": 1000, "seed": 0, "shards": 64},
    "prepare": {
        "source": {
            "kind": "files",
            **{"user": "user_id", "item": "item_id", "time": "timestamp", "time_unit": "ms"},
            "feedback": {"click": {"column": "click", "kind": "binary"}},
        },
        "state_type": "float16",
        "action_dim": 2,
        "train_fraction": 0.98,
        "validation_fraction": 0.01,
    },
    "train": {
        "checkpoint_every": 1,
        "config": {
            **{"hidden_sizes": [64, 64], "num_epochs": 1, "transitions": "streaming"},
            **{"train_batch_size_per_learner": 4096, "updates_per_iteration": 100},
            # A rule of its own, because a choice by roll-outs takes a time that does not depend on the size of the log.
            "serving": {"temperature": 0.2, "variety": 1.0, "repetition": 0.0, "scores": "q"},
        },
    },
}


class Killer(Watch):
    """Kills once, inside `with`, the process that `find` returns. `killed`: seconds since the start; None: none."""

    def __init__(self, find: Callable[[], psutil.Process | None]) -> None:
        super().__init__(SECONDS)
        self.killed: float | None = None
        self._find, self._began = find, time.monotonic()

    def look(self) -> bool:
        """Kill the process if there is one. Return whether none was killed."""
        with suppress(psutil.NoSuchProcess):
            process = self._find()
            if process is not None:
                process.kill()
                self.killed = round(time.monotonic() - self._began, 1)
        return self.killed is None


def nobody() -> None:
    """Return None: no process is killed."""


def task_named(name: str, _output: Path) -> psutil.Process | None:
    """Return a process below this one that runs a task of this name."""
    begin = name[:15]  # the kernel keeps no more
    return next((one for one in psutil.Process().children(recursive=True) if one.name().startswith(begin)), None)


def half_trained(run: Path) -> psutil.Process | None:
    """Return the process of `train` after half of its iterations."""
    rows = [row for row in rows_in(run / "progress.csv") if row.get("progress")]
    if not rows or float(rows[-1]["progress"]) < 0.5:
        return None
    return next((one for one in psutil.Process().children() if "train" in one.cmdline()), None)


#: The process of each stage that is killed, by the stage's output.
VICTIMS: dict[str, Callable[[Path], psutil.Process | None]] = {
    "prepare": partial(task_named, "ray::_write_requests"),
    "train": half_trained,
    "evaluate": partial(task_named, "ray::_score"),
}


def measured(find: Callable[[], psutil.Process | None], *command: str) -> dict[str, Any]:
    """Run a command of the product, `train` again after a kill. Returns seconds, peaks, and time of the kill."""

    def run(*command: str) -> None:
        try:
            prefrec(*command)
        except SystemExit:
            if command[0] != "train" or killer.killed is None:
                raise
            prefrec(*command, "--resume")

    with Killer(find) as killer:
        result, _ = stage(*command, run=run)
    return result if killer.killed is None else {**result, "killed_after": killer.killed}


def digest(folder: Path, names: str = "*") -> str:
    """Return a digest of the names and bytes of the files in a folder."""
    total = hashlib.blake2b()
    for file in sorted(file for file in folder.rglob(names) if file.is_file()):
        total.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return total.hexdigest()


def stages(million: float, work: Path, plain: bool, kill: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the stages at one size, `plain` and then with a `kill`; yield name and figures."""
    folder = work / f"{million:g}"
    config = write_config(json.loads(json.dumps(SECTIONS)), million, str(folder / "logs" / "interactions"), folder)
    yield "simulate", measured(nobody, "simulate", config, "--output", str(folder / "logs"))
    outputs: dict[str, list[Path]] = {}
    results: dict[str, list[str]] = {}

    def each(name: str, *words: str) -> Iterator[tuple[str, Path, dict[str, Any]]]:
        for killed in [False] * plain + [True] * kill:
            made = folder / f"{name}{killed:d}"
            find = partial(VICTIMS[name], made) if killed else nobody
            figures = measured(find, name, *words, "--output", str(made))
            outputs.setdefault(name, []).append(made)
            yield f"{name}{', killed' * killed}", made, figures

    for title, made, figures in each("prepare", config):
        counts = json.loads((made / "metadata.json").read_text())["counts"]
        requests = sum(split["requests"] for split in counts.values())
        yield title, {**figures, "disk_gb": folder_gb(made), "requests": requests}
        results.setdefault("prepare", []).append(digest(made) if plain and kill else "")
    data, *others = outputs["prepare"]
    for other in others:
        shutil.rmtree(other)
    for title, made, figures in each("train", config, "--dataset", str(data)):
        rows = [row for row in rows_in(made / "progress.csv") if row["phase"] == "train"]
        about = {"transitions": 4096 * int(rows[-1]["updates"]), "iterations": len(rows)}
        seconds = sum(float(row["transitions"]) / float(row["transitions_per_second"]) for row in rows)
        yield title, {**figures, **about, "in_updates": round(seconds)}
        results.setdefault("train", []).append(digest(made / "policy", "*.safetensors"))
    for title, made, figures in each("evaluate", str(outputs["train"][0] / "policy"), "--dataset", str(data)):
        yield title, {**figures, "requests": counts["test"]["requests"]}
        results.setdefault("evaluate", []).append(made.read_text())
    if plain and kill:
        equal = {name: len(set(found)) == 1 for name, found in results.items()}
        yield "equal", equal
        if not all(equal.values()):
            raise UserError(f"largest: results differ after a kill ({equal})")
    shutil.rmtree(folder / "logs")
    shutil.rmtree(data)


def main(work: Path, millions: Sequence[float] = (1, 10, 30)) -> Iterator[dict[str, Any]]:
    """Print a line per stage, and write the JSON again after each."""
    first, *_, last = (*millions, millions[-1])

    def of_size(million: float) -> Iterator[tuple[str, dict[str, Any]]]:
        return stages(million, work, million != last or first == last, million in (first, last))

    yield from each_size(millions, of_size)
