"""The loop on a platform whose truth is known: serve, log, retrain, judge, promote, night after night.

    python -m benchmarks loop OUTPUT [--users 2000] [--nights 6] [--log 240] [--requests 60]

The world is the worst of the truth bench, all_at_once: nobody is shown an item twice, users tire, tastes drift, and
users differ. The logging policy serves `log` requests a user. Then, `nights` times: `prefrec nightly` on the event
log, and a day of `requests` a user, each asked of `prefrec serve OUTPUT/loop/current` over HTTP and answered with
feedback. As long as no night has been promoted the logging policy goes on. The same users with the same luck live the
same days under the logging policy alone, and under `nutrition`, the best policy known, which sees what is hidden. A
day's level is the mean over users of their sessions' frequency levels against their own means in the first log.

Writes OUTPUT/levels.csv and OUTPUT/loop.png.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import yaml

from benchmarks.harness import markdown
from benchmarks.truth.bench import world_of
from prefrec_ray import storage
from prefrec_ray.engagement import session_table, user_means
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.law import LOGGING, Choice, generator
from prefrec_ray.simulator.rollout import History, outcome, roll_out
from prefrec_ray.simulator.servers import OneOfBest, nutrition
from prefrec_ray.simulator.settings import EMBEDDING_DIM
from prefrec_ray.simulator.traits import CATEGORIES
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import start_of_log

COMMAND = [sys.executable, "-m", "prefrec_ray.cli.main"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PREFREC_SERVE_TOKEN": ""}
#: Requests that wait for an answer at a time.
AT_ONCE = 64
#: Updates of a night's training, on the first log.
UPDATES, BATCH = 1000, 256
TRAIN = {"hidden_sizes": [64, 64], "train_batch_size_per_learner": BATCH, "preference_batch_size": 16}
TRAIN |= {"pretrain_epochs": 2, "critic_lr": 2e-3, "actor_lr": 1e-3, "value_lr": 2e-3, "tau": 0.02}  # as truth.yaml


def main(output: Path, users: int = 2000, nights: int = 6, log: int = 240, requests: int = 60) -> Iterator[dict]:
    """Lives all days; gives the levels after each."""
    begin, events = time.monotonic(), output / "events"
    output.mkdir(parents=True)
    world = world_of("all_at_once", users, log)
    crowd, logging = start_of_log(world, 0, np.arange(users))
    first = roll_out(crowd, logging, log)
    level = level_against(first)
    (config := output / "loop.yaml").write_text(yaml.safe_dump(sections(output, users * log), sort_keys=False))
    describing_policy(world).save(str(output / "describing"))
    append(first, crowd.traits.features, output / "describing", events)

    alone, best = copy.deepcopy((crowd, logging)), copy.deepcopy(crowd)
    knowing = OneOfBest(best, nutrition, generator(world.settings.seed, LOGGING, 0, 2))
    rows: list[dict[str, Any]] = []
    for night in range(1, nights + 1):
        done = subprocess.run([*COMMAND, "nightly", str(config)], env=ENVIRONMENT, check=False)
        record = json.loads((output / "loop/nights.json").read_text().splitlines()[-1])
        current = output / "loop/current"
        bundle = Path(storage.followed(str(current)))
        if bundle.exists():
            with serving(current, events) as port:
                platform = Platform(port)
                day = roll_out(crowd, platform, requests)
                platform.close()
        else:
            day = roll_out(crowd, logging, requests)
            append(day, {}, output / "describing", events)
        levels = {
            "loop": level(day),
            "logging policy": level(roll_out(*alone, requests)),
            "nutrition (best known)": level(roll_out(best, knowing, requests)),
        }
        intervals = {name: f"{value:.3f} ± {half:.3f}" for name, (value, half) in levels.items()}
        score = (levels["loop"][0] - levels["logging policy"][0]) / (
            levels["nutrition (best known)"][0] - levels["logging policy"][0]
        )
        served = str(bundle.relative_to(output.absolute() / "loop/nights")) if bundle.exists() else "logging"
        rows.append({"night": night, "exit": done.returncode, "status": record["status"], "verdict": record["verdict"]})
        rows[-1] |= {
            "served": served,
            **intervals,
            "share of the best": f"{score:.2f}",
            "estimated gain": record["gain"],
        }
        rows[-1] |= {"items shown": len(np.unique(day.rows)), "minutes": f"{(time.monotonic() - begin) / 60:.1f}"}
        print(markdown(rows[-1], [rows[-1].values()]), flush=True)
        write(output, rows)
        yield {"nights": rows}
    print(markdown(rows[0], [row.values() for row in rows]))


def sections(output: Path, rows: int) -> dict[str, Any]:
    """loop.yaml; `rows`: requests of the first log."""
    split = {"train_fraction": 0.6, "validation_fraction": 0.15}
    preferences = {"pairs": 6000, "validation_pairs": 2000, "tasks": ["frequency"]}
    epochs = round(UPDATES * BATCH / (split["train_fraction"] * rows), 2)
    return {
        "prepare": {"source": {"kind": "events", "path": str(output / "events")}, **split, "preferences": preferences},
        "train": {"task": "frequency", "config": {**TRAIN, "num_epochs": epochs}},
        "evaluate": {"estimators": ["model"]},
        "loop": {"folder": str(output / "loop")},
    }


def level_against(first: History) -> Callable[[History], tuple[float, float]]:
    """A function of a day: the mean level, and half its 95 % interval over users."""
    users, requests = first.rows.shape
    user = np.repeat(np.arange(users), requests)
    table = session_table(user, first.time_ms.ravel(), first.session.ravel())
    means = user_means(table.user, table.depth, users), user_means(table.user, table.revisit_ms, users)

    def level(day: History) -> tuple[float, float]:
        levels = outcome(day, *means, 0.5).levels["frequency"]
        known = levels[np.isfinite(levels)]
        return float(known.mean()), float(1.96 * known.std() / np.sqrt(len(known)))

    return level


def describing_policy(world: World) -> Policy:
    """Random networks, which serve nobody: what a server's folder needs to know of its log comes from a policy."""
    state = StateDefinition(feedback=FEEDBACK, user_features=CATEGORIES, action_dim=EMBEDDING_DIM)
    width, dim = state.width, EMBEDDING_DIM
    actor = DeterministicActor(mlp(width, [8], dim).requires_grad_(False), -np.ones(dim), np.ones(dim))
    critic = Critic([QFunction(mlp(width + dim, [8], 1).requires_grad_(False), (), dim)])
    items = ItemTable(np.arange(len(world.embeddings)), world.embeddings)
    return Policy(actor, state, Normaliser(np.zeros(width), np.ones(width)), items, critic=critic)


def append(history: History, features: dict[str, np.ndarray], policy: Path, folder: Path) -> None:
    """Writes what the logging policy showed to the event log, with its propensities."""
    opened = Opened(str(policy), str(folder), ServeSettings())
    for step in range(history.rows.shape[1]):
        shown, back, now = [], [], int(time.time() * 1000)
        for user, (time_ms, row) in enumerate(zip(history.time_ms[:, step], history.rows[:, step], strict=True)):
            common = {"timestamp": int(time_ms), "given": int(time_ms), "received": now, "policy": "logging"}
            common |= {"event_id": f"{opened.log_id}-{opened.log.next + user:x}", "user_number": user, "arm": "main"}
            common |= {"items": [int(row)], "propensities": [float(history.propensity[user, step])]}
            known = {name: values[user] for name, values in features.items() if values[user] is not None}
            shown.append(Event(Kind.RECOMMENDED, **common, note=json.dumps(known) if known and not step else None))
            values = history.feedback[user, step].tolist()
            back.append(Event(Kind.FEEDBACK, **common, feedback=values, position=0, known=True))
        opened.log.commit([*shown, *back])
    opened.close()


@contextmanager
def serving(policy: Path, state: Path) -> Iterator[int]:
    """`prefrec serve` on a free port, which it gives."""
    command = [*COMMAND, "serve", str(policy), "--state", str(state), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.search(r"serving on http://\S+:(\d+) ", line):
                yield int(match[1])
                break
        else:
            sys.exit("prefrec serve did not start")
    finally:
        process.terminate()
        process.wait()


class Platform:
    """Asks the server what to show, and tells it what came of it; `simulator.servers.Server` over HTTP."""

    def __init__(self, port: int) -> None:
        self._url, self._loop = f"http://127.0.0.1:{port}", asyncio.new_event_loop()
        self._session = self._loop.run_until_complete(self._open())
        self._events: list[str] = []

    @staticmethod
    async def _open() -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None)
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE), timeout=timeout)

    def close(self) -> None:
        """Closes the connections."""
        self._loop.run_until_complete(self._session.close())

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        """One item for each user, by POST /recommend. The server itself knows what a user has seen."""
        bodies = [{"user": user, "k": 1, "timestamp": int(now)} for user, now in enumerate(time_ms)]
        answers = self._all("/recommend", bodies)
        self._events = [answer["event_id"] for answer in answers]
        rows = np.array([answer["items"][0] for answer in answers])
        assert excluded is None or not excluded[np.arange(len(rows)), rows].any(), "an item was shown twice"
        return Choice(rows, np.array([answer["propensities"][0] for answer in answers]))

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """POST /feedback."""
        named = [dict(zip(FEEDBACK, values, strict=True)) for values in feedback.tolist()]
        self._all("/feedback", [{"event_id": e, "feedback": f} for e, f in zip(self._events, named, strict=True)])

    def _all(self, path: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        async def post(body: dict[str, Any]) -> dict[str, Any]:
            async with self._session.post(self._url + path, json=body) as answer:
                if answer.status != 200:
                    sys.exit(f"{path}: status {answer.status}: {await answer.text()}")
                return await answer.json()

        async def together() -> list[dict[str, Any]]:
            return await asyncio.gather(*map(post, bodies))

        return self._loop.run_until_complete(together())


def write(output: Path, rows: list[dict[str, Any]]) -> None:
    """levels.csv and loop.png."""
    import matplotlib.pyplot as plt

    storage.write_csv(str(output / "levels.csv"), rows)
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    nights = [row["night"] for row in rows]
    styles = {"nutrition (best known)": ("C2", "--"), "loop": ("C0", "-"), "logging policy": ("0.4", "--")}
    for name, (colour, line) in styles.items():
        value, half = (np.array([float(row[name].split(" ± ")[part]) for row in rows]) for part in (0, 1))
        axes.plot(nights, value, line, color=colour, label=name, marker="o" if name == "loop" else None)
        axes.fill_between(nights, value - half, value + half, color=colour, alpha=0.15, linewidth=0)
        if name == "loop":
            kept = [row["status"] != "promoted" for row in rows]
            axes.plot(np.array(nights)[kept], value[kept], "o", color="white", markeredgecolor=colour, zorder=3)
    axes.set(xlabel="night (hollow: the policy before was kept)", ylabel="frequency level", xticks=nights)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(output / "loop.png", dpi=150)
    plt.close(figure)
