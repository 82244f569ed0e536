"""Time of a request with the candidates of a retriever: the server without HTTP, next to a bare loop.

    python -m benchmarks candidates [--items 100000] [--candidates 10000] [--together 1] [--sizes 256 256 256]

The policy draws ten of the candidates, each with a prior. `parse` reads the JSON body; `engine` checks it, computes the
user's state, draws, writes the row to the log on the disk and applies it. `together` requests are one batch. The bare
loop has the same products, square roots and exponentials in PyTorch and NumPy, and nothing else; `bare_q_of_all` is Q
of every candidate instead of the landmarks. Processor ms per request, on one thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import linear

from benchmarks.harness import one_thread
from benchmarks.speed.load import SIZES, make_policy, replies
from prefrec_ray.bench.results import markdown
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.requests.bodies import Recommend, parse
from prefrec_ray.serving.requests.engine import Engine
from prefrec_ray.serving.settings import ServeSettings

_LANDMARKS, _WIDTH, _PAGE = 128, 8, 10


def main(
    items: int = 100_000, candidates: int = 10_000, calls: int = 200, together: int = 1, sizes: list[int] = SIZES
) -> dict[str, Any]:
    """Print the median and the 90 % quantile of each part, and the median of the bare loop.

    `wall` is the time of parse and engine on the clock, with waits for the disk and for other processes.
    """
    one_thread()
    rng, clock = np.random.default_rng(0), int(time.time() * 1000)
    took: dict[str, list[float]] = {"parse": [], "engine": [], "wall": []}
    with tempfile.TemporaryDirectory() as folder:
        make_policy(items, ServingSettings(), sizes).save(f"{folder}/policy")
        opened = Opened(f"{folder}/policy", f"{folder}/state", ServeSettings())
        engine = Engine(opened.state, opened.log, opened.log_id, seed=0)
        contents = [body_of(rng, items, candidates) for _ in range(16)]
        for call in range(calls):
            users = range(call * together, (call + 1) * together)
            # So that the users are known.
            replies(engine, [Recommend(user=user, k=1, candidates=[0]) for user in users], clock)
            batch = [b'{"user":%d,%s' % (user, contents[user % len(contents)]) for user in users]
            begin, wall = time.process_time(), time.perf_counter()
            bodies = [parse(Recommend, content) for content in batch]
            parsed = time.process_time()
            replies(engine, bodies, clock)
            took["parse"].append(parsed - begin)
            took["engine"].append(time.process_time() - parsed)
            took["wall"].append(time.perf_counter() - wall)
        opened.close()
    measured: dict[str, Any] = {"items": items, "candidates": candidates, "together": together, "sizes": sizes}
    for name, seconds in took.items():
        for quantile in (50, 90):
            measured[f"{name}_ms_{quantile}"] = round(1000 * float(np.percentile(seconds, quantile)) / together, 2)
    measured |= bare(candidates, together, sizes)
    print(markdown(measured, [measured.values()]))
    return measured


def body_of(rng: np.random.Generator, items: int, candidates: int) -> bytes:
    """Return the JSON of a request after its user."""
    drawn = rng.choice(items, candidates, replace=False).tolist()
    pairs = [[item, round(prior, 4)] for item, prior in zip(drawn, rng.normal(size=candidates), strict=True)]
    return json.dumps({"k": _PAGE, "candidates": pairs})[1:].encode()


def bare(candidates: int, together: int, sizes: Sequence[int]) -> dict[str, float]:
    """Return the median processor ms per request of the arithmetic, with random numbers in place of networks."""
    rng = np.random.default_rng(0)
    weights = [torch.randn(b, a) for a, b in zip([_WIDTH, *sizes], [*sizes, 1], strict=True)]
    left = rng.normal(size=(candidates, _WIDTH + 2)).astype(np.float32)
    right = rng.normal(size=(_WIDTH + 2, _LANDMARKS)).astype(np.float32)
    logits, uniform = rng.normal(size=(together, candidates)), rng.random((together, 1))

    def network(rows: int) -> Callable[[], Any]:
        inputs = torch.randn(rows, _WIDTH)

        def outputs() -> None:
            hidden = inputs
            with torch.inference_mode():
                for weight in weights:
                    hidden = torch.relu_(linear(hidden, weight))

        return outputs

    def interpolation() -> None:
        for _ in range(together):
            for first in range(0, candidates, 512):
                squares = np.abs(left[first : first + 512] @ right)
                squares *= np.sqrt(squares)
                squares @ right[0]

    def draw() -> None:
        for _ in range(_PAGE):
            running = np.cumsum(np.exp(logits), axis=1)
            (running <= uniform * running[:, -1:]).sum(axis=1)

    parts = {
        "q_of_landmarks": network(together * _LANDMARKS),
        "interpolation": interpolation,
        "draw": draw,
        "q_of_all": network(together * candidates),
    }
    return {f"bare_{name}_ms": round(1000 * processor_seconds(part) / together, 2) for name, part in parts.items()}


def processor_seconds(work: Callable[[], Any]) -> float:
    """Return the median processor seconds of 20 calls, after one that is not counted."""
    took = []
    for _ in range(1 + 20):
        begin = time.process_time()
        work()
        took.append(time.process_time() - begin)
    return float(np.median(took[1:]))
