"""Run of a `prefrec` command as a job of the cluster: its files, and its log until the end."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import prefrec_ray
from prefrec_ray import storage
from prefrec_ray.errors import UserError

#: Seconds without a reply of the dashboard after which following ends; the job itself continues.
SILENCE = 60.0
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@contextmanager
def parcel(config: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield a runtime environment with this package, and with the YAML at `config` in the working folder.

    Nothing is installed on the nodes: their image contains Ray, PyTorch and the other libraries.
    """
    with tempfile.TemporaryDirectory(prefix="prefrec-") as folder:
        package = Path(prefrec_ray.__file__).parent
        code = Path(folder, package.name)
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        work = Path(folder, "work")
        work.mkdir()
        if config is not None:
            (work / config.rpartition("/")[2]).write_text(storage.read_text(config), "utf-8")
        yield {"working_dir": str(work), "py_modules": [str(code)]}


def submit(client: Any, words: Sequence[str], config: str | None, env: dict[str, str], on: str | None) -> str:
    """Start `prefrec WORDS` on the cluster, with the YAML `config` in its working folder, and return the job's id.

    Its process runs on the head or, if `on` is set, on a node that has a unit of this resource. Raises `UserError` if
    the cluster refuses the job.
    """
    with parcel(config) as runtime_env:
        line = shlex.join(["python", "-m", "prefrec_ray.cli.main", *words])
        return start(client, line, {**runtime_env, "env_vars": env}, {on: 1.0} if on else None)


def start(client: Any, line: str, runtime_env: dict[str, Any], resources: dict[str, float] | None = None) -> str:
    """Start the shell command `line` as a job. Raises `UserError` if the cluster refuses it."""
    # The node's own Python, unbuffered, so that the log can be followed line by line.
    runtime_env = {**runtime_env, "env_vars": {"PYTHONUNBUFFERED": "1", **runtime_env.get("env_vars", {})}}
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
            if str(info.status.value) in _ENDED:
                return _status(info)
        except (RuntimeError, OSError) as error:
            if time.monotonic() - heard > SILENCE:
                raise UserError(
                    f"job {job}: no reply of the cluster for {SILENCE:.0f} s; the job may continue ({error})"
                ) from error
        time.sleep(1.0)


def _status(info: Any) -> int:
    if info.status.value == "SUCCEEDED":
        return 0
    return int(info.driver_exit_code or 1)
