"""Live metrics of a run: gauges on Ray's Prometheus endpoint, and log lines in JSON.

Every number in a row of progress.csv becomes a gauge `prefrec_<column>` of the node that trains, with the tags run,
method and task (cluster/grafana.json draws them). With PREFREC_LOG=json in the environment each row is also a line of
JSON on stderr, which Ray keeps in the log of the worker.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from ray.util.metrics import Gauge

TAGS = ("run", "method", "task")


def publish(row: Mapping[str, Any], run: str, method: str, task: str) -> None:
    """Publish the row of an iteration for the run or trial named `run`."""
    tags = {"run": run, "method": method, "task": task}
    for column, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            _gauge(column).set(float(value), tags)
    if os.environ.get("PREFREC_LOG") == "json":
        figures = {column: value for column, value in row.items() if value is not None}
        line = {"time": round(time.time(), 3), "event": "iteration", **tags, **figures}
        print(json.dumps(line), file=sys.stderr, flush=True)


def gauge_name(column: str) -> str:
    """Return the gauge name of a column of progress.csv. In Prometheus it has Ray's prefix `ray_`."""
    return "prefrec_" + "".join(letter if letter.isalnum() else "_" for letter in column)


@cache
def _gauge(column: str) -> Gauge:
    return Gauge(gauge_name(column), description=f"{column} of progress.csv", tag_keys=TAGS)
