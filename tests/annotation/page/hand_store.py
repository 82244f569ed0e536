"""A store that is made by hand, without Ray; and `prefrec label` as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from prefrec_ray.annotation.page.desk import DRAWN, LabelSettings
from prefrec_ray.annotation.page.store import Store

SECRET, DATASET = "a secret of a test", "/data/set"
EVIL = "<script>alert(1)</script>\"'&"
DAY = 86_400.0


def write_store(folder: Path, pairs: int = 40, known: int = 4, **settings: Any) -> LabelSettings:
    """Pairs 1 to `pairs`, of which the first `known` are gold (second) and the last two are held out.

    Items and one kind of feedback are called by a text that would run as a script, were it not escaped.
    """
    rng = np.random.default_rng(0)
    chosen = LabelSettings(pairs=pairs, **settings)
    folder.mkdir(parents=True)
    about = {"dataset": DATASET, "signals": ["like", "click"], "secret": SECRET}
    about["settings"] = chosen.model_dump(include=set(DRAWN))
    rows = []
    for pair in range(1, pairs + 1):
        segments = [segment(rng), segment(rng)]
        split = "validation" if pair > pairs - 2 else "train"
        label = "second" if pair <= known else None
        rows.append((pair, split, label, json.dumps(segments)))
    Store.create(str(folder), about, rows)
    return chosen


def segment(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Three to six sessions, as annotation/questions.py describes them."""
    start, sessions = datetime(2024, 1, 1, 9, tzinfo=UTC), []
    for number in range(int(rng.integers(3, 7))):
        gap = int(rng.integers(1, 60)) * 3_600_000
        requests = [
            {
                "item": f"{EVIL}{rng.integers(9)}",
                "feedback": {"click": float(rng.integers(2)), "like": float(rng.random() < 0.2), EVIL: 0.5},
            }
            for _ in range(int(rng.integers(1, 8)))
        ]
        sessions.append(
            {
                **{"session": number, "start": start.isoformat(timespec="milliseconds"), "depth": len(requests)},
                **{"gap_ms": gap, "requests": requests},
            }
        )
        start += timedelta(milliseconds=gap)
    return sessions


def invite(folder: Path, name: str, days: float = 1.0) -> str:
    """The path of an invitation; the person is entered into the store, which no process serves."""
    import time

    with closing(Store(str(folder))) as store:
        return f"/enter/{store.invite(name, time.time() + days * DAY)}"


@contextmanager
def served(folder: Path, *options: str, token: str = "") -> Iterator[Server]:
    """`prefrec label` on a free port."""
    server = Server(folder, *options, token=token)
    try:
        yield server
    finally:
        server.stop()


class Server:
    """The process, its address and its output."""

    def __init__(self, folder: Path, *options: str, token: str = "") -> None:
        environment = {**os.environ, "PREFREC_LABEL_TOKEN": token, "RAY_ADDRESS": "nobody starts Ray here"}
        command = [sys.executable, "-m", "prefrec_ray.cli.main", "label", DATASET, "--store", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.output, self.url, self.admin = "", "", ""
        for line in self.process.stdout:
            self.output += line
            if match := re.search(r"labeling on (\S+) ", line):
                self.url = match[1]
            if line.startswith("admin: "):
                self.admin = line.split()[1]
                break

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)


class Browser:
    """Cookies and forms, without scripts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        self.status, self.text = 0, ""

    def open(self, path: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> str:
        """The page at `path`, after redirections; with `form` by POST."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(path if "://" in path else self.url + path, data, headers or {})
        try:
            with self._opener.open(request, timeout=30) as answer:
                self.status, self.text, self.headers = answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            self.status, self.text, self.headers = error.code, error.read().decode(), error.headers
        return self.text

    def hidden(self, name: str) -> str:
        """The value of a hidden field of the page."""
        match = re.search(rf'name="{name}" value="([^"]+)"', self.text)
        assert match, self.text
        return match[1]

    def answer(self, label: str, **changes: str) -> int:
        """Answers the question on the page."""
        form = {"question": self.hidden("question"), "label": label}
        self.open("/answer", form | changes)
        return self.status
