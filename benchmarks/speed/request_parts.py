"""Processor time of the parts of an HTTP request with candidates.

    python -m benchmarks request_parts [--candidates 1000] [--sizes 256 256 256]

Each batch has 11 recommendations of ten among the candidates, and 5 pages of feedback on earlier ones. Bodies are
parsed, planned, logged, applied and encoded as in the server; sockets and HTTP are missing. Parts of a batch are timed
by wrappers, which cost microseconds per call. Processor ms per HTTP request, on one thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.harness import one_thread
from benchmarks.speed.candidates import body_of
from benchmarks.speed.load import SIZES, make_policy, replies
from prefrec_ray.bench.results import markdown
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.policy.distribution import Distribution
from prefrec_ray.policy.landmarks import Landmarks
from prefrec_ray.policy.weighing import Weighing
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.requests import engine as engines
from prefrec_ray.serving.requests import pages
from prefrec_ray.serving.requests.bodies import parse_feedback, parse_recommend
from prefrec_ray.serving.requests.engine import Engine
from prefrec_ray.serving.settings import ServeSettings

_SHOWN, _FEEDBACK = 11, 5
#: Functions that are timed; those after "draw" are part of it.
PARTS = {
    "check": (engines, "check_page"),
    "draw": (pages, "_draw"),
    "states": (StateTracker, "states"),
    "lookup": (pages, "_candidates"),
    "network": (Weighing, "_score"),
    "interpolation": (Landmarks, "interpolate"),
    "positions": (Distribution, "_in_turn"),
    "log": (EventLog, "commit"),
    "apply": (Engine, "take_in"),
    "observe": (StateTracker, "observe"),
}


def main(items: int = 100_000, candidates: int = 1000, batches: int = 60, sizes: list[int] = SIZES) -> dict[str, Any]:
    """Print the median ms of each part."""
    one_thread()
    took: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        make_policy(items, ServingSettings(), sizes).save(f"{folder}/policy")
        opened = Opened(f"{folder}/policy", f"{folder}/state", ServeSettings())
        engine = Engine(opened.state, opened.log, opened.log_id, seed=0)
        rng, shown = np.random.default_rng(0), list[dict[str, Any]]()
        contents = [body_of(rng, items, candidates) for _ in range(16)]
        for batch in range(-5, batches):  # without the first five
            asked = [b'{"user":%d,%s' % (user, contents[user % 16]) for user in rng.permutation(2000)[:_SHOWN].tolist()]
            given = [feedback_on(page) for page in shown[:_FEEDBACK]]
            with timed() as spent:
                bodies = reply_to(engine, asked, given, spent)
            shown = [*shown[_FEEDBACK:], *bodies[:_SHOWN]][-64:]
            for name, seconds in spent.items() if batch >= 0 else ():
                took[name].append(seconds)
        opened.close()
    each = _SHOWN + _FEEDBACK
    measured: dict[str, Any] = {"candidates": candidates, "sizes": sizes}
    measured |= {f"{name}_ms": round(1000 * float(np.median(seconds)) / each, 3) for name, seconds in took.items()}
    print(markdown(measured, [measured.values()]))
    return measured


def reply_to(engine: Engine, asked: list[bytes], given: list[bytes], spent: dict[str, float]) -> list[dict[str, Any]]:
    """Return the replies to a batch; add the seconds of its steps to `spent`."""
    begin, now = time.thread_time(), int(time.time() * 1000)
    commands = [*map(parse_recommend, asked), *map(parse_feedback, given)]
    parsed = time.thread_time()
    bodies = replies(engine, commands, now)
    replied = time.thread_time()
    for reply in bodies:
        json.dumps(reply, separators=(",", ":"))
    end = time.thread_time()
    spent |= {"parse": parsed - begin, "engine": replied - parsed, "encode": end - replied, "whole": end - begin}
    return bodies


def feedback_on(page: dict[str, Any]) -> bytes:
    """Return the body of feedback on all items of a page."""
    entries = [{"item": item, "feedback": {"click": 1, "watch": 0.5}} for item in page["items"]]
    return json.dumps({"event_id": page["event_id"], "items": entries}).encode()


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Yield a dictionary to which the processor seconds of `PARTS` are added within the block."""
    spent: dict[str, float] = defaultdict(float)

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **more: Any) -> Any:
            begin = time.thread_time()
            try:
                return function(*arguments, **more)
            finally:
                spent[name] += time.thread_time() - begin

        return call

    with ExitStack() as stack:
        for name, (owner, function) in PARTS.items():
            stack.enter_context(patch.object(owner, function, wrapped(name, getattr(owner, function))))
        yield spent
