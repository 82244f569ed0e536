"""Run of a `prefrec` command as a job of the cluster: its files, and its log until the end."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import prefrec_ray
from prefrec_ray import storage
from prefrec_ray.errors import UserError

#: Seconds without a reply of the dashboard after which following ends; the job itself continues.
SILENCE = 60.0
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


def start(
    client: Any,
    module: str,
    words: Sequence[str],
    env: dict[str, str],
    config: str | None = None,
    on: str | None = None,
) -> str:
    """Start `python -m MODULE WORDS` on the cluster, and return the job's id.

    The job gets this package, the YAML at `config` in its working folder, and the variables `env`. Nothing is installed
    on the nodes: their image contains Ray, PyTorch and the other libraries. The process runs on the head or, if `on` is
    set, on a node that has a unit of this resource. Raises `UserError` if the cluster refuses the job.
    """
    with tempfile.TemporaryDirectory(prefix="prefrec-") as folder:
        package = Path(prefrec_ray.__file__).parent
        code, work = Path(folder, package.name), Path(folder, "work")
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        work.mkdir()
        if config is not None:
            (work / config.rpartition("/")[2]).write_text(storage.read_text(config), "utf-8")
        # The node's own Python, unbuffered, so that the log can be followed line by line.
        variables = {"PYTHONUNBUFFERED": "1", **env}
        runtime_env = {"working_dir": str(work), "py_modules": [str(code)], "env_vars": variables}
        line = shlex.join(["python", "-m", module, *words])
        resources = {on: 1.0} if on else None
        try:
            return str(client.submit_job(entrypoint=line, runtime_env=runtime_env, entrypoint_resources=resources))
        except (RuntimeError, ConnectionError) as error:
            raise UserError(f"the cluster refuses the job ({error})") from error


def follow(client: Any, job: str, write: Callable[[str], None]) -> int:
    """Pass the job's log to `write` until its end; return its exit status (1 if it failed without one).

    A broken connection is made again, and the log continues. Raises `UserError` after `SILENCE`.
    """
    seen, heard = 0, time.monotonic()

    async def tail() -> None:
        nonlocal seen, heard
        start = 0
        async for text in client.tail_job_logs(job):
            heard = time.monotonic()
            # Each connection begins at the first character.
            start, new = start + len(text), text[max(0, seen - start) :]
            if new:
                write(new)
                seen += len(new)

    while True:
        try:
            asyncio.run(tail())
            info = client.get_job_info(job)
            heard = time.monotonic()
            if str(info.status.value) in ENDED:
                return 0 if info.status.value == "SUCCEEDED" else int(info.driver_exit_code or 1)
        except (RuntimeError, OSError) as error:
            if time.monotonic() - heard > SILENCE:
                raise UserError(
                    f"job {job}: no reply of the cluster for {SILENCE:.0f} s; the job may continue ({error})"
                ) from error
        time.sleep(1.0)
