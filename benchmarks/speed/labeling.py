"""Many annotators at once: the time of an answer, and lost or doubled votes, also if the server is killed.

`python -m benchmarks labeling STORE` takes a copy of a store of `prefrec label`, which it fills with made-up votes.
Annotators are tasks of one process; each looks at a pair for a second on average, answers by the form of the page, and
follows to the next page. The time of an answer is from sending it until the next page is there.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prefrec_ray.annotation.page.access import Signer
from prefrec_ray.annotation.page.store import Store

ANNOTATORS, SECONDS, LOOK, KILLS = 50, 60.0, 1.0, 10
LABELS = ("first", "second", "tie", "skip")


@dataclass
class Annotator:
    """An annotator with a link. acknowledged: tokens of the answers that the server acknowledged."""

    name: str
    link: str
    cookie: str = ""
    acknowledged: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Page:
    """A connection that is kept, and the page on it."""

    def __init__(self, port: int) -> None:
        self._port, self.status, self.text, self.cookie = port, 0, "", ""

    async def open(self) -> None:
        """Connects."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, method: str, path: str, body: str = "") -> None:
        """One request and its answer, without following."""
        kind = "content-type: application/x-www-form-urlencoded\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: {self.cookie}\r\n{kind}"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        cookies = [line.split(": ", 1)[1] for line in lines if line.lower().startswith("set-cookie")]
        self.cookie = cookies[0].split(";")[0] if cookies else self.cookie
        self.text = (await self._reader.readexactly(int(headers["content-length"]))).decode()

    def hidden(self, field: str) -> str | None:
        """The value of a hidden field."""
        match = re.search(rf'name="{field}" value="([^"]+)"', self.text)
        return match[1] if match else None


async def annotate(who: Annotator, port: int, until: float, rng: np.random.Generator) -> None:
    """Answers until the time is over, or nothing is left. Raises `OSError` if the server is gone."""
    page = Page(port)
    await page.open()
    await page.ask("GET", who.link)
    await page.ask("GET", "/")
    while time.monotonic() < until and (token := page.hidden("question")) is not None:
        await asyncio.sleep(rng.exponential(LOOK))
        body = f"form={page.hidden('form')}&question={token}&label={LABELS[rng.integers(4)]}"
        begin = time.monotonic()
        await page.ask("POST", "/answer", body)
        if page.status != 303:
            raise AssertionError(f"{who.name}: {page.status}")
        who.acknowledged.append(token)
        await page.ask("GET", "/")
        who.seconds.append(time.monotonic() - begin)


async def team(people: list[Annotator], port: int, seconds: float, kill: tuple[int, float] | None = None) -> None:
    """All at once. kill: a process that is killed (-9) meanwhile, and after how many seconds."""
    until = time.monotonic() + seconds
    tasks = [annotate(who, port, until, np.random.default_rng(n)) for n, who in enumerate(people)]
    if kill is not None:
        asyncio.get_running_loop().call_later(kill[1], os.kill, kill[0], signal.SIGKILL)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException) and (kill is None or not isinstance(result, OSError | EOFError)):
            raise result


async def start(store: str) -> tuple[asyncio.subprocess.Process, int]:
    """The command as a process, and its port."""
    dataset = Store(store).about["dataset"]
    command = ["-m", "prefrec_ray.cli.main", "label", dataset, "--store", store, "--port", "0"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        if match := re.search(r"labeling on \S+:(\d+) ", line):
            return process, int(match[1])
    raise RuntimeError("prefrec label did not start")


def invited(store: str, count: int) -> list[Annotator]:
    """New people with links."""
    opened, expires = Store(store), time.time() + 86_400
    signer = Signer(opened.about["secret"])
    names = [f"annotator {n:02d} of {time.time():.0f}" for n in range(count)]
    for name in names:
        opened.invite(name, expires)
    opened.close()
    return [Annotator(name, f"/enter/{signer.sign('invitation', name, expires)}") for name in names]


def lost_and_doubled(store: str, people: list[Annotator]) -> tuple[int, int]:
    """Answers that were acknowledged and are not there; votes of one person on one pair beyond the first."""
    opened = Store(store)
    votes = opened.votes()
    opened.close()
    tokens = {vote.token for vote in votes}
    lost = sum(token not in tokens for who in people for token in who.acknowledged)
    return lost, len(votes) - len({(vote.pair, vote.annotator, vote.repeat) for vote in votes})


async def _load(store: str, annotators: int, seconds: float) -> dict[str, Any]:
    people = invited(store, annotators)
    process, port = await start(store)
    await team(people, port, seconds)
    process.terminate()
    await process.wait()
    taken = np.array([second for who in people for second in who.seconds])
    lost, doubled = lost_and_doubled(store, people)
    p50, p95, p99 = (1000 * np.quantile(taken, (0.5, 0.95, 0.99))).round(1).tolist()
    return {"answers": len(taken), "ms_p50": p50, "ms_p95": p95, "ms_p99": p99, "lost": lost, "doubled": doubled}


async def _kill(store: str, annotators: int, seconds: float) -> dict[str, int]:
    people = invited(store, annotators)
    process, port = await start(store)
    await team(people, port, 60.0, (process.pid, seconds))
    await process.wait()
    lost, doubled = lost_and_doubled(store, people)
    return {"acknowledged": sum(len(who.acknowledged) for who in people), "lost": lost, "doubled": doubled}


def load(store: str, annotators: int, seconds: float) -> dict[str, Any]:
    """`annotators` at once for some seconds: percentiles of an answer in ms, votes lost and doubled."""
    return asyncio.run(_load(store, annotators, seconds))


def kill(store: str, annotators: int, seconds: float) -> dict[str, int]:
    """The same, killed (-9) after some seconds: answers acknowledged until then, lost and doubled."""
    return asyncio.run(_kill(store, annotators, seconds))


def main(store: Path) -> dict[str, Any]:
    """A minute of 50, then ten kills."""
    measured: dict[str, Any] = {"annotators": ANNOTATORS, "load": load(str(store), ANNOTATORS, SECONDS)}
    print(measured, flush=True)
    measured["kills"] = []
    for number in range(KILLS):
        measured["kills"].append(kill(str(store), ANNOTATORS, 2.0 + 0.37 * number))
        print(measured["kills"][-1], flush=True)
    return measured
