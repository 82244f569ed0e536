"""Errors of a plan: `python -m benchmarks plan CONFIG COSTS WORK [--millions 3 8]`.

COSTS is the file of `prefrec plan CONFIG --calibrate COSTS`. Each size is simulated with the settings of CONFIG and
prepared. The processor time and memory of each kind of task, and the time of all, are compared with the plan.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefrec_ray import memory, storage
from prefrec_ray.bench.results import markdown
from prefrec_ray.cli.config import open_section
from prefrec_ray.planning.calibration import measured_prepare
from prefrec_ray.planning.cluster import Cluster, Costs, Phase
from prefrec_ray.planning.cluster import simulate as simulate_phases
from prefrec_ray.planning.stages import PlannedRun, prepare_phases
from prefrec_ray.settings import parse
from prefrec_ray.simulator.write import simulate

#: Function of the tasks of a stage.
FUNCTIONS = {
    "read the log": "read",
    "group by user": "_write",
    "label preferences": "_bucket_scores",
    "scale states": "_state_moments",
    "compute states": "_write_requests",
    "shuffle transitions": "write_shard",
    "fit expected feedback": "feedback_network_of",
}


def compare(config: str, costs: Costs, million: float, work: Path) -> list[dict[str, Any]]:
    """Return planned and measured processor seconds and memory of each stage at one size."""
    world, prepared = (open_section(config, name) for name in ("simulate", "prepare"))
    folder = work / f"{million:g}"
    logs, dataset = str(folder / "logs"), str(folder / "dataset")
    simulate(world.model_copy(update={"users": round(million * 1e6 / costs.requests)}), logs)
    meter, made = measured_prepare(prepared, logs, dataset)
    impressions = sum(counts["requests"] for counts in made.metadata.counts.values())
    run = PlannedRun(
        impressions, costs.width, prepared, open_section(config, "train"), open_section(None, "evaluate"), costs
    )
    planned: dict[str, list[Phase]] = {}
    machine = Cluster(1, costs.cores, memory.installed(), 0, math.inf, 0, costs.dispatch, costs.overhead)
    phases = list(prepare_phases(run, machine))
    for phase in phases:
        planned.setdefault(phase.stage, []).append(phase)
    rows = []
    for stage, function in FUNCTIONS.items():
        seconds = sum(phase.tasks * phase.seconds for phase in planned[stage])
        tasks, peak = sum(phase.tasks for phase in planned[stage]), max(phase.memory for phase in planned[stage])
        rows.append(_row(million, stage, tasks, seconds, meter.seconds[function], peak, meter.memory[function]))
    total = [sum(row[key] for row in rows) for key in ("tasks", "planned_s", "measured_s")]
    rows.append(_row(million, "all", *total, 0, 0))
    rows.append(
        _row(million, "all, time on the clock", total[0], simulate_phases(phases, machine)[1], meter.clock, 0, 0)
    )
    shutil.rmtree(folder)
    return rows


def _row(
    million: float, stage: str, tasks: int, planned: float, measured: float, planned_bytes: float, bytes_: float
) -> dict[str, Any]:
    error = round(planned / measured - 1, 3) if measured else None
    seconds = {"planned_s": round(planned, 2), "measured_s": round(measured, 2), "error": error}
    memory = {"planned_mb": round(planned_bytes / 1e6), "measured_mb": round(bytes_ / 1e6)}
    return {"millions": million, "stage": stage, "tasks": tasks, **seconds, **memory}


def main(config: str, costs: str, work: Path, millions: Sequence[float] = (3, 8)) -> Iterator[dict[str, Any]]:
    """Print one table per size."""
    known, rows = parse(Costs, storage.read_json(costs), costs), []
    for million in millions:
        rows += compare(config, known, million, work)
        own = [row for row in rows if row["millions"] == million]
        print(markdown(own[0], [row.values() for row in own]), flush=True)
        yield {"rows": rows}
