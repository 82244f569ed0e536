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
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.harness import serving
from prefrec_ray.annotation.page.store import Store

ANNOTATORS, SECONDS, LOOK, KILLS = 50, 60.0, 1.0, 10
LABELS = ("first", "second", "tie", "skip")


@dataclass
class Annotator:
    """An annotator with a link. acknowledged: tokens of the answers that the server acknowledged."""

    name: str
    link: str
    acknowledged: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def hidden(text: str, field: str) -> str | None:
    """Return the value of a hidden field of a page."""
    match = re.search(rf'name="{field}" value="([^"]+)"', text)
    return match[1] if match else None


async def annotate(who: Annotator, port: int, until: float, rng: np.random.Generator) -> None:
    """Answer until the time is over, or nothing is left. Raises `aiohttp.ClientError` if the server is gone."""
    # An unsafe jar accepts cookies of an address without a name.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar) as page:
        async with page.get(who.link) as reply:  # it leads to /
            text = await reply.text()
        while time.monotonic() < until and (token := hidden(text, "question")) is not None:
            await asyncio.sleep(rng.exponential(LOOK))
            form = {"question": token, "label": LABELS[rng.integers(4)]}
            begin = time.monotonic()
            async with page.post("/answer", data=form, allow_redirects=False) as reply:
                if reply.status != 303:
                    raise AssertionError(f"{who.name}: {reply.status}")
            who.acknowledged.append(token)
            async with page.get("/") as reply:
                text = await reply.text()
            who.seconds.append(time.monotonic() - begin)


async def team(people: list[Annotator], port: int, seconds: float, kill: tuple[int, float] | None = None) -> None:
    """All at once. kill: a process that is killed (-9) meanwhile, and after how many seconds."""
    until = time.monotonic() + seconds
    tasks = [annotate(who, port, until, np.random.default_rng(n)) for n, who in enumerate(people)]
    if kill is not None:
        asyncio.get_running_loop().call_later(kill[1], os.kill, kill[0], signal.SIGKILL)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException) and (
            kill is None or not isinstance(result, OSError | aiohttp.ClientError)
        ):
            raise result


def invited(store: str, count: int) -> list[Annotator]:
    """New people with links."""
    expires = time.time() + 86_400
    names = [f"annotator {n:02d} of {time.time():.0f}" for n in range(count)]
    with closing(Store(store)) as opened:
        return [Annotator(name, f"/enter/{opened.invite(name, expires)}") for name in names]


def lost_and_doubled(store: str, people: list[Annotator]) -> tuple[int, int]:
    """Answers that were acknowledged and are not there; votes of one person on one pair beyond the first."""
    opened = Store(store)
    votes = opened.votes()
    opened.close()
    tokens = {vote.token for vote in votes}
    lost = sum(token not in tokens for who in people for token in who.acknowledged)
    return lost, len(votes) - len({(vote.pair, vote.annotator, vote.repeat) for vote in votes})


def load(store: str, annotators: int, seconds: float, kill_after: float | None = None) -> dict[str, Any]:
    """`annotators` at once for some seconds: percentiles of an answer in ms, votes acknowledged, lost and doubled.

    kill_after: seconds until the server is killed (-9); None: it is not.
    """
    people = invited(store, annotators)
    with serving("label", Store(store).about["dataset"], "--store", store) as (process, port):
        asyncio.run(team(people, port, seconds, None if kill_after is None else (process.pid, kill_after)))
    taken = [second for who in people for second in who.seconds]
    p50, p95, p99 = (1000 * np.quantile(taken, (0.5, 0.95, 0.99))).round(1).tolist()
    lost, doubled = lost_and_doubled(store, people)
    acknowledged = sum(len(who.acknowledged) for who in people)
    return {"acknowledged": acknowledged, "ms_p50": p50, "ms_p95": p95, "ms_p99": p99, "lost": lost, "doubled": doubled}


def main(store: Path) -> dict[str, Any]:
    """A minute of 50, then ten kills."""
    measured: dict[str, Any] = {"annotators": ANNOTATORS, "load": load(str(store), ANNOTATORS, SECONDS)}
    print(measured, flush=True)
    measured["kills"] = []
    for number in range(KILLS):
        measured["kills"].append(load(str(store), ANNOTATORS, SECONDS, 2.0 + 0.37 * number))
        print(measured["kills"][-1], flush=True)
    return measured
