"""`prefrec serve` as a process of its own, and a client for it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from patience import soon

from prefrec_ray.serving import clients

TOKEN = "a token of a test, long enough"
ALL = clients.Clients([clients.Client(clients.DEFAULT, sha256(TOKEN.encode()).digest(), clients.RIGHTS)])


class Client:
    """One connection, kept open."""

    def __init__(self, port: int, token: str | None = TOKEN) -> None:
        self.port, self._token = port, token
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def raw(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, dict, bytes]:
        """Status, headers and body."""
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, and the value of the JSON."""
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["content-type"] = "application/json"
        status, _, answer = self.raw(method, path, content, headers)
        return status, json.loads(answer) if path != "/metrics" else answer.decode()

    def post(self, path: str, **body: Any) -> Any:
        """Return the reply to a POST that must succeed."""
        status, answer = self.ask("POST", path, body)
        assert status == 200, answer
        return answer


class Process:
    """The command, its port and its output."""

    def __init__(self, policy: Path | str, state: Path | str, *options: str, token: str | None = TOKEN) -> None:
        environment = {**os.environ, "PREFREC_SERVE_TOKEN": token or "", "RAY_ADDRESS": "nobody starts Ray here"}
        command = [sys.executable, "-m", "prefrec_ray.cli.main", "serve", str(policy), "--state", str(state)]
        command += ["--port", "0", *options]
        self.state = Path(state)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.output: list[str] = []
        self.port = 0
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            match = re.search(r"serving on http://\S+:(\d+) ", line)
            if match:
                self.port = int(match[1])
                break
        else:
            self.process.wait()

    def client(self) -> Client:
        """Return a new connection, once the server replies."""
        client = Client(self.port)
        limit = time.monotonic() + soon(20)
        while True:
            try:
                assert client.ask("GET", "/healthz")[0] == 200
                return client
            except OSError:
                assert time.monotonic() < limit
                time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(soon(20))
        self._close()
        return status

    def _close(self) -> None:
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            self.output += self.process.stdout.readlines()
            self.process.stdout.close()


@contextmanager
def serving(policy: Path | str, state: Path | str, *options: str, token: str | None = TOKEN) -> Iterator[Process]:
    """A server that ends with the block."""
    process = Process(policy, state, *options, token=token)
    try:
        yield process
    finally:
        process.stop()
