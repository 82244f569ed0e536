"""The Hugging Face Hub on loopback for tests: repositories in memory, and the part of its HTTP interface in use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from threaded import in_thread

SHA = "0" * 40
#: /api/KIND/NAME/REPO/ACTION/REVISION/PATH, and without /api and the kind of models for files.
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w[\w-]*)/[^/?]+)?/?([^?]*)")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/([^?]+)")


class Hub(ThreadingHTTPServer):
    """`repositories`: files by kind and name; `private`: the names of private ones; `commits`: their number."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[tuple[str, str], dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.commits = 0

    @property
    def url(self) -> str:
        """Return the value of HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        found = _FILE.fullmatch(self.path.partition("?")[0])
        if found:
            files = self.server.repositories.get(("datasets" if found[1] else "models", found[2]), {})
            content = files.get(unquote(found[3]))
            if content is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if part:
                content = content[int(part[1]) : int(part[2]) + 1]
            self._send(206 if part else 200, content, {})
            return
        parts = _API.fullmatch(self.path.partition("?")[0])
        kind, name, action, path = parts.groups() if parts else ("", "", None, "")
        files = self.server.repositories.get((kind, name))
        if files is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif action == "tree":
            self._json(list(_entries(files, unquote(path), "recursive=True" in self.path)))
        else:
            self._json({"id": name, "sha": SHA, "siblings": [{"rfilename": file} for file in sorted(files)]})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            self.server.repositories.setdefault((f"{wanted.get('type') or 'model'}s", name), {})
            self.server.private |= {name} if wanted.get("private") or wanted.get("visibility") == "private" else set()
            self._json({"url": f"{self.server.url}/{name}", "name": name})
            return
        if self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
            return
        kind, name, action, _ = _API.fullmatch(self.path.partition("?")[0]).groups()
        files = self.server.repositories[kind, name]
        if action == "preupload":
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._json({"files": [{"path": one["path"], **modes} for one in json.loads(body)["files"]]})
        elif action == "paths-info":
            wanted = json.loads(body)["paths"]
            every = {one["path"]: one for one in _entries(files, "", True)}
            self._json([every[path] for path in wanted if path in every])
        elif action == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.server.commits += 1
            self._json({"commitUrl": f"{self.server.url}/{name}/commit/{SHA}", "commitOid": SHA, "success": True})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        own = {"Content-Length": str(len(content)), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        for name, value in {
            **own,
            "X-Repo-Commit": SHA,
            **(headers if status != 200 or content[:1] == b"{" else {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


def _entries(files: dict[str, bytes], folder: str, recursive: bool) -> Iterator[dict[str, Any]]:
    """Yield the files and folders in a folder of a repository."""
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    folders = set()
    for path, content in sorted(files.items()):
        parts = path.removeprefix(prefix).split("/")
        if not path.startswith(prefix):
            continue
        folders |= {
            prefix + "/".join(parts[:depth]) for depth in range(1, len(parts) if recursive else min(2, len(parts)))
        }
        if recursive or len(parts) == 1:
            yield {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    yield from ({"type": "directory", "path": one, "size": 0, "oid": SHA} for one in sorted(folders))


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve an empty Hub."""
    with in_thread(Hub()) as hub:
        yield hub
