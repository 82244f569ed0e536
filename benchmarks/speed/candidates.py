"""Time of a request with the candidates of a retriever, in the server without HTTP.

    python -m benchmarks candidates [--items 100000] [--candidates 10000]

The policy of `load` draws ten of the candidates, each with a prior. `parse` reads the JSON body; `engine` checks it,
computes the user's state, draws, writes the row to the log on the disk and applies it. One thread; user after user.
"""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

import numpy as np
import torch

from benchmarks.speed.load import make_policy
from prefrec_ray.bench.results import markdown
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.requests.bodies import Recommend, parse
from prefrec_ray.serving.requests.engine import Engine
from prefrec_ray.serving.settings import ServeSettings


def main(items: int = 100_000, candidates: int = 10_000, calls: int = 200) -> dict[str, Any]:
    """Print the median ms, and the 90 % quantile, of reading a body and of the engine's work.

    `engine_processor` is the processor time of the engine, without waits for the disk and for other processes.
    """
    torch.set_num_threads(1)
    rng, clock = np.random.default_rng(0), int(time.time() * 1000)
    took: dict[str, list[float]] = {"parse": [], "engine": [], "engine_processor": []}
    with tempfile.TemporaryDirectory() as folder:
        make_policy(items, ServingSettings()).save(f"{folder}/policy")
        opened = Opened(f"{folder}/policy", f"{folder}/state", ServeSettings())
        engine = Engine(opened.state, opened.log, opened.log_id, seed=0)

        def recommend(body: Recommend) -> None:
            plan = engine.plan([body], clock)
            engine.take_in(plan, engine.log.commit(plan.events), clock)

        for user in range(calls):
            recommend(Recommend(user=user))  # so that the user is known
        for user in range(calls):
            drawn = rng.choice(items, candidates, replace=False).tolist()
            pairs = [[item, round(prior, 4)] for item, prior in zip(drawn, rng.normal(size=candidates), strict=True)]
            content = json.dumps({"user": user, "k": 10, "candidates": pairs}).encode()
            begin = time.perf_counter()
            body = parse(Recommend, content)
            parsed, processor = time.perf_counter(), time.process_time()
            recommend(body)
            took["parse"].append(parsed - begin)
            took["engine"].append(time.perf_counter() - parsed)
            took["engine_processor"].append(time.process_time() - processor)
        opened.close()
    measured: dict[str, Any] = {"items": items, "candidates": candidates}
    for name, seconds in took.items():
        for quantile in (50, 90):
            measured[f"{name}_ms_{quantile}"] = round(1000 * float(np.percentile(seconds, quantile)), 2)
    print(markdown(measured, [measured.values()]))
    return measured
