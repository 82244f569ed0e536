"""Jobs of a cluster, from outside: connection to its dashboard with the token, start of a job, and its log."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import prefrec_ray
from prefrec_ray import runtime, storage
from prefrec_ray.errors import UserError

#: Address of a cluster's dashboard behind `ray dashboard`, `kubectl port-forward` or an ssh tunnel.
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
#: Seconds that the head has to reply to a simple HTTP request.
PATIENCE = 10.0
#: Seconds without a reply of the dashboard after which following ends; the job itself continues.
SILENCE = 60.0
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


def token() -> str | None:
    """Return the token of `RAY_AUTH_TOKEN`, of the file `RAY_AUTH_TOKEN_PATH`, or of `~/.ray/auth_token`, as Ray does.

    Raises `UserError` if the file in `RAY_AUTH_TOKEN_PATH` cannot be read, and for a token that no header can hold.
    """
    source, secret = "RAY_AUTH_TOKEN", os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if not secret:
        named = os.environ.get("RAY_AUTH_TOKEN_PATH")
        path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
        source = f"RAY_AUTH_TOKEN_PATH: {named}" if named else str(path)
        try:
            secret = path.read_text("utf-8", "replace").strip()
        except OSError as error:
            if named:
                raise UserError(f"{source}: {error.strerror}; expected the cluster's token") from error
    if not (secret.isascii() and secret.isprintable()):
        raise UserError(f"{source}: found characters other than printable ASCII; expected the cluster's token")
    return secret or None


def connect(address: str) -> Any:
    """Return a `JobSubmissionClient` of the cluster whose dashboard is at `address`, after a successful HTTP request.

    Raises `UserError` within seconds for an address that is not HTTP, no server, a server that is not a dashboard of
    Ray, a missing or wrong token, and another version of Ray.
    """
    address = address.rstrip("/")
    status, answer = _get(address, "/api/version", headers())
    if status == 401:
        raise UserError(
            f"{address}: the cluster requires its token; "
            f"set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put it into ~/.ray/auth_token"
        )
    if status == 403:
        raise UserError(f"{address}: found a wrong token; expected the token with which the cluster was started")
    if status != 200 or not isinstance(answer, dict) or "ray_version" not in answer:
        raise UserError(f"{address}: found a server other than a dashboard of Ray (status {status}); expected its URL")
    theirs, ours = answer["ray_version"], version("ray")
    if theirs != ours:
        raise UserError(f"{address}: the cluster runs Ray {theirs}, this machine {ours}; expected the same version")
    # Imported here: importing Ray takes seconds, and mistakes should be reported first.
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)
    with _without(_ADDRESS_VARIABLES):
        return JobSubmissionClient(address, headers=headers())


def headers() -> dict[str, str]:
    """Return the HTTP headers with the token."""
    secret = token()
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def asks_for_token(address: str) -> bool:
    """Return True if the list of jobs is refused without a token."""
    return _get(address, "/api/jobs/", {})[0] in (401, 403)


def _get(address: str, path: str, shown: dict[str, str]) -> tuple[int, Any]:
    """Return status and JSON (None: not JSON) of the reply at `address`. Raises `UserError` without a reply."""
    import requests

    try:
        response = requests.get(f"{address}{path}", headers=shown, timeout=PATIENCE)
    except ValueError as error:  # not a URL, or another scheme than HTTP
        raise UserError(
            f"{address}: found no address of a dashboard; expected a URL such as {DEFAULT_ADDRESS}"
        ) from error
    except requests.ConnectionError as error:
        raise UserError(
            f"{address}: found no server; expected a cluster's dashboard: "
            f"is it up, and the port forwarded (ray dashboard, kubectl port-forward, ssh -L)?"
        ) from error
    except requests.RequestException as error:
        raise UserError(f"{address}: found no dashboard of Ray ({type(error).__name__}); expected its URL") from error
    try:
        return response.status_code, response.json()
    except ValueError:
        return response.status_code, None


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """Remove these variables temporarily, since Ray's client prefers their address to its argument."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def start(client: Any, module: str, words: Sequence[str], config: str | None = None) -> str:
    """Start `python -m MODULE WORDS` on the head of the cluster, and return the job's id.

    The job gets this package and the YAML at `config` in its working folder. Nothing is installed on the nodes: their
    image contains Ray, PyTorch and the other libraries. Raises `UserError` if the cluster refuses the job.
    """
    with tempfile.TemporaryDirectory(prefix="prefrec-") as folder:
        package = Path(prefrec_ray.__file__).parent
        code, work = Path(folder, package.name), Path(folder, "work")
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        work.mkdir()
        if config is not None:
            (work / config.rpartition("/")[2]).write_text(storage.read_text(config), "utf-8")
        # The node's own Python, unbuffered, so that the log can be followed line by line.
        variables = {"PYTHONUNBUFFERED": "1", runtime.SUBMITTED: "1"}
        runtime_env = {"working_dir": str(work), "py_modules": [str(code)], "env_vars": variables}
        line = shlex.join(["python", "-m", module, *words])
        try:
            return str(client.submit_job(entrypoint=line, runtime_env=runtime_env))
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
