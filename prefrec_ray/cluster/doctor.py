"""Examination of a cluster before a run: connects to its head, runs `probe` there as a job, and checks its facts."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from typing import Any

from prefrec_ray.cluster import head, job, probe
from prefrec_ray.cluster.checks import Check, judge
from prefrec_ray.cluster.placement import Demand
from prefrec_ray.errors import UserError

#: Seconds for the whole job: a new Python on the head and on each node, and `probe.PATIENCE`.
PATIENCE = 60.0


def examine(address: str, storage: str | None, demands: Sequence[Demand], env: dict[str, str]) -> list[Check]:
    """Run all checks of the cluster whose dashboard is at `address`.

    `storage`: a URI that every node must be able to write to. `demands`: from `placement.demands`. `env`: variables for
    the nodes' access to the storage. Raises `UserError` like `head.connect`, and if a check does not end.
    """
    client = head.connect(address)
    guarded = head.asks_for_token(address)
    text = (
        "required of every client"
        if guarded
        else "not required: anyone who reaches the address can run commands: set RAY_AUTH_MODE=token"
    )
    return [Check("token", guarded, text), *judge(_facts(client, storage, env), storage, demands)]


def _facts(client: Any, storage: str | None, env: dict[str, str]) -> dict[str, Any]:
    line = ["python", "-m", "prefrec_ray.cluster.probe", *([storage] if storage else [])]
    with job.parcel() as runtime_env:
        number = job.start(client, shlex.join(line), {**runtime_env, "env_vars": env})
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        info = client.get_job_info(number)
        if info.status.value in ("SUCCEEDED", "FAILED", "STOPPED"):
            log = client.get_job_logs(number)
            for log_line in log.splitlines():
                if log_line.startswith(probe.MARK):
                    return json.loads(log_line.removeprefix(probe.MARK))
            last = (log.strip().splitlines() or [info.message or "no log"])[-1]
            raise UserError(
                f"job {number}: the check failed on the cluster ({last}); expected a cluster that runs jobs"
            )
        time.sleep(0.5)
    client.stop_job(number)
    raise UserError(
        f"job {number}: the check did not end in {PATIENCE:.0f} s (status {info.status.value}); "
        f"expected a head that runs jobs: see its dashboard"
    )
