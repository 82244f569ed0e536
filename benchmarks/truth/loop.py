"""The loop on platforms whose truth is known: serve, log, look at the canary, train, release, day after day.

    python -m benchmarks loop OUTPUT [--worlds NAME ...] [--users 2000] [--days 20] [--harmful] [--share 0.05]

Users live by the calendar: each comes back at the times of the world's law. For `FIRST_DAYS` days the logging policy
serves everybody. Then, every day: `prefrec nightly` on the event log, and a day of `prefrec serve OUTPUT/WORLD/loop/
current` over HTTP. The logging policy is the incumbent, which serves the users without a canary until a policy is
promoted. The same users also live the same days under the logging policy alone, and under the best known policy, which
sees what is hidden. The server's clock is that of the world, as it logs when it received an event. With
`harmful`, the policy of the first canary is replaced by one with the negative Q. `share`: of the users in a canary.

A day's level is the mean over sessions that begin on it, of their frequency levels against the user's own means in the
first days. Writes OUTPUT/WORLD/days.csv and days.png.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from benchmarks.harness import serving
from benchmarks.truth.calendar import Day, Life, Shown
from prefrec_ray import storage
from prefrec_ray.bench.results import markdown
from prefrec_ray.bench.worlds import world_of
from prefrec_ray.engagement import levels_against, session_table, user_means
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.nightly.folder import LoopFolder
from prefrec_ray.policy import Policy
from prefrec_ray.reports.figures import legend, panel
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.simulator.law import DAY_MS, EPOCH_MS, LOGGING, CrowdServer, generator
from prefrec_ray.simulator.rollout import start_of_log
from prefrec_ray.simulator.servers import OneOfBest

COMMAND = [sys.executable, "-m", "prefrec_ray.cli.main"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PREFREC_SERVE_TOKEN": ""}
#: Requests that wait for an answer at a time, and users of a request for recommendations.
AT_ONCE = 64
#: Days of the logging policy before the loop; users arrive within the first two weeks.
FIRST_DAYS = 28
CANARY = {"days": 2.0, "longest_days": 10.0, "explore": True}
#: Small networks and batches, of which a log of 50,000 impressions makes some hundred updates.
TRAIN = {"hidden_sizes": [64, 64], "train_batch_size_per_learner": 256, "preference_batch_size": 16}
TRAIN |= {"critic_lr": 2e-3, "actor_lr": 1e-3, "value_lr": 2e-3, "num_epochs": 3}
#: Days after the last night, so that users of the last days have time to return.
LAST_DAYS = 4
#: Three development worlds, and three validation worlds.
DEFAULT = ("topics", "wearout", "overload", "regimes", "habit", "bubble")


def main(
    output: Path,
    worlds: Sequence[str] = DEFAULT,
    users: int = 2000,
    days: int = 20,
    harmful: bool = False,
    share: float = 0.05,
) -> dict[str, Any]:
    """Live the days of every world that OUTPUT lacks, and print a table."""
    rows = []
    for world in worlds:
        file = output / world / "summary.json"
        if not file.exists():
            file.write_text(json.dumps(one_world(world, output / world, users, days, harmful, share)))
        rows.append(json.loads(file.read_text()))
    print(markdown(rows[0], [list(row.values()) for row in rows]))
    return {"worlds": rows}


def one_world(name: str, output: Path, users: int, days: int, harmful: bool, share: float) -> dict[str, Any]:
    """Live all days of a world, and return its row of the table."""
    output.mkdir(parents=True)
    world = world_of(name, users=users)
    crowd, logging = start_of_log(world, 0, np.arange(users))
    life, events = Life(crowd), output / "events"
    incumbent = described(world, output / "items.parquet")
    first = life.until(EPOCH_MS + FIRST_DAYS * DAY_MS, logging)
    append(first, crowd.features, incumbent, events)
    (config := output / "loop.yaml").write_text(yaml.safe_dump(sections(output, incumbent, share), sort_keys=False))

    alone, best = copy.deepcopy((life, logging)), copy.deepcopy(life)
    cost = next(iter(world.controls.values()))
    knowing = OneOfBest(best.crowd, cost, generator(world.settings.seed, LOGGING, 0, 2))
    folder, rows, lived = LoopFolder(str(output / "loop")), [], {"loop": [first], "logging": [first], "best": [first]}
    for day in range(1, days + LAST_DAYS + 1):
        begun, end = time.monotonic(), EPOCH_MS + (FIRST_DAYS + day) * DAY_MS
        if day <= days:
            subprocess.run([*COMMAND, "nightly", str(config)], env=ENVIRONMENT, check=False)
        night, record = folder.nights()[-1], folder.record()
        if harmful and day == 1 and record.canary is not None:
            spoil(Path(folder.bundle(record.canary)))
        if record.canary is None and not record.promoted:
            today = life.until(end, logging)
            append(today, {}, incumbent, events)
        else:
            command = "serve", folder.current, "--state", str(events), "--config", str(config)
            with (
                serving(*command, environment=ENVIRONMENT, program=by_clock(end)) as (_, port),
                ThreadPoolExecutor(AT_ONCE) as threads,
            ):
                today = life.until(end, OverHttp(port, logging, world.feedback, threads))
        lived["loop"].append(today)
        lived["logging"].append(alone[0].until(end, alone[1]))
        lived["best"].append(best.until(end, knowing))
        if day > days:
            continue
        about = {"status": night.status, "verdict": night.verdict or "", "gain": night.gain}
        look = {} if night.look is None else {"look": night.look.decision, "users": night.look.users}
        share = 0.0 if record.canary is None else record.canary.share
        rows.append({"day": day, **about, "look": "", "users": "", **look, "canary": share})
        rows[-1] |= {"current": record.promoted[-1] if record.promoted else "logging policy"}
        rows[-1] |= {"minutes": f"{(time.monotonic() - begun) / 60:.1f}"}
        print(markdown(rows[-1], [rows[-1].values()]), flush=True)
    return summary(name, output, rows, {kind: Day.joined(parts) for kind, parts in lived.items()}, users)


def sections(output: Path, incumbent: dict[str, Any], share: float) -> dict[str, Any]:
    """loop.yaml."""
    split = {"train_fraction": 0.6, "validation_fraction": 0.15}
    preferences = {"pairs": 6000, "validation_pairs": 2000, "tasks": ["frequency"]}
    source = {"kind": "events", "path": str(output / "events"), "items": incumbent["items"]}
    return {
        "prepare": {"source": source, **split, "preferences": preferences},
        "train": {"task": "frequency", "config": TRAIN},
        "evaluate": {"estimators": ["model"], "model": {"users": 100, "requests": 150}},
        "loop": {"folder": str(output / "loop"), "canary": {**CANARY, "share": share}},
        "serve": {"incumbent": incumbent},
    }


def summary(name: str, output: Path, rows: list[dict[str, Any]], lived: dict[str, Day], users: int) -> dict[str, Any]:
    """Write days.csv and days.png, and return the row of a world."""
    levels = {kind: daily_levels(day, users, len(rows)) for kind, day in lived.items()}
    for number, row in enumerate(rows):
        row |= {kind: f"{mean[number]:.3f} ± {half[number]:.3f}" for kind, (mean, half) in levels.items()}
    storage.write_csv(str(output / "days.csv"), rows)
    draw(output / "days.png", levels)
    loop, logging, best = (levels[kind][0] for kind in ("loop", "logging", "best"))
    last = slice(-3, None)
    return {
        "world": name,
        "share of the best known gain, last three days": round(
            float((loop[last].mean() - logging[last].mean()) / (best[last].mean() - logging[last].mean())), 2
        ),
        "worst day against the logging policy": f"{(loop / logging - 1).min():+.1%}",
        "canaries": sum(row["status"] == "canary" for row in rows),
        "promoted": sum(row["look"] == "promote" for row in rows),
        "withdrawn": sum(row["look"] == "withdraw" for row in rows),
    }


def daily_levels(lived: Day, users: int, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean frequency level of the sessions of each day, and half its 95 % interval over users, [days]."""
    table = session_table(lived.user, lived.time_ms, lived.session)
    begin = EPOCH_MS + FIRST_DAYS * DAY_MS
    before = table.start < begin
    depth = user_means(table.user[before], table.depth[before], users)
    revisit = user_means(table.user[before], table.revisit_ms[before], users)
    level = levels_against(table, depth, revisit, 0.5)["frequency"]
    day = (table.start - begin) // DAY_MS
    means, halves = [], []
    for number in range(days):
        mine = (day == number) & np.isfinite(level)
        by_user = user_means(table.user[mine], level[mine], users)
        known = by_user[np.isfinite(by_user)]
        means.append(known.mean())
        halves.append(1.96 * known.std() / np.sqrt(len(known)))
    return np.array(means), np.array(halves)


def spoil(bundle: Path) -> None:
    """Replace the policy in `bundle` by one with the negative Q."""
    policy = Policy.load(str(bundle))
    assert policy.critic is not None
    critic = replace(
        policy.critic,
        networks=[network.scaled(-1) for network in policy.critic.networks],
        kind_effects=[-effects for effects in policy.critic.kind_effects],
        worth=None if policy.critic.worth is None else -policy.critic.worth,
    )
    storage.remove(str(bundle))
    replace(policy, critic=critic).save(str(bundle))


def described(world: Any, file: Path) -> dict[str, Any]:
    """Write the items of the world to `file`, and return `serve.incumbent`."""
    pq.write_table(table := world.items(), file)
    kinds = [name for name in table.column_names if name not in ("item_id", "embedding")]
    items = {"path": str(file), "features": kinds}
    items |= {"embedding": "embedding"} if "embedding" in table.column_names else {}
    features = {name: list(values) for name, values in world.categories.items()}
    return {"items": items, "feedback": dict.fromkeys(world.feedback, "number"), "user_features": features}


def append(day: Day, features: dict[str, np.ndarray], incumbent: dict[str, Any], folder: Path) -> None:
    """Write what the logging policy showed to the event log, with its propensities."""
    opened = Opened(str(folder / "none"), str(folder), ServeSettings.model_validate({"incumbent": incumbent}))
    described = set()
    for start in range(0, len(day.user), 4096):
        events = []
        for at in range(start, min(start + 4096, len(day.user))):
            user, stamp = int(day.user[at]), int(day.time_ms[at])
            common = {"timestamp": stamp, "given": stamp, "received": stamp, "policy": "logging", "arm": "main"}
            common |= {"event_id": f"{opened.log_id}-{opened.log.next + len(events):x}", "user_number": user}
            common |= {"items": [int(day.row[at])], "propensities": [float(day.propensity[at])]}
            known = {} if user in described else {name: values[user] for name, values in features.items()}
            described.add(user)
            note = json.dumps({name: value for name, value in known.items() if value is not None}) if known else None
            events.append(Event(Kind.RECOMMENDED, **common, note=note))
            events.append(Event(Kind.FEEDBACK, **common, feedback=day.feedback[at].tolist(), position=0, known=True))
        opened.log.commit(events)
    opened.close()


def by_clock(clock_ms: int) -> tuple[str, str]:
    """Return arguments of Python that run the product under a clock that begins at `clock_ms`."""
    moved = f"import time; now = time.time; time.time = lambda: now() + {clock_ms / 1000 - time.time()}"
    return "-c", f"{moved}; from prefrec_ray.cli.main import main; raise SystemExit(main())"


class OverHttp:
    """Asks the server what to show, with the choice of `incumbent`, and sends the feedback."""

    def __init__(self, port: int, incumbent: CrowdServer, feedback: Sequence[str], threads: Executor) -> None:
        self._port, self._threads, self._own = port, threads, threading.local()
        self._incumbent, self._feedback = incumbent, feedback
        self._events: list[str] = []

    def show(self, users: np.ndarray, time_ms: np.ndarray, excluded: np.ndarray | None) -> Shown:
        """Return one item for each of `users`, by POST /recommend."""
        choice = self._incumbent.serve(time_ms, excluded)
        self._incumbent.observe(
            time_ms, choice.rows, np.empty((len(time_ms), 0))
        )  # its strength lasts some impressions
        bodies = [
            {"user": user, "k": 1, "timestamp": int(time_ms[user]), "incumbent": [int(choice.rows[user])]}
            for user in users.tolist()
        ]
        several = [{"requests": bodies[start : start + AT_ONCE]} for start in range(0, len(bodies), AT_ONCE)]
        replies = [reply for answer in self._all("/recommend", several) for reply in answer["replies"]]
        self._events = [reply["event_id"] for reply in replies]
        chances = [reply["propensities"][0] for reply in replies]
        return Shown(
            np.array([reply["items"][0] for reply in replies]),
            np.array([np.nan if chance is None else chance for chance in chances]),
        )

    def observe(self, feedback: np.ndarray) -> None:
        """POST /feedback."""
        named = [dict(zip(self._feedback, values, strict=True)) for values in feedback.tolist()]
        self._all("/feedback", [{"event_id": e, "feedback": f} for e, f in zip(self._events, named, strict=True)])

    def _all(self, path: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return list(self._threads.map(partial(self._post, path), bodies))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the reply, over a connection of this thread, which stays open."""
        if not hasattr(self._own, "connection"):
            self._own.connection = HTTPConnection("127.0.0.1", self._port)
        self._own.connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        reply = self._own.connection.getresponse()
        content = json.loads(reply.read())
        if reply.status != 200:
            sys.exit(f"POST {path}: {reply.status} {content}")
        return content


def draw(file: Path, levels: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw the levels by day."""
    figure, axes = panel("", "day", "frequency level", 6.4, 3.6)
    for name, style in (("best", "C2--"), ("loop", "C0-"), ("logging", "k--")):
        mean, half = levels[name]
        days = np.arange(1, len(mean) + 1)
        label = {"best": "best known", "loop": "loop", "logging": "logging policy"}[name]
        (line,) = axes.plot(days, mean, style, label=label)
        axes.fill_between(days, mean - half, mean + half, color=line.get_color(), alpha=0.15, linewidth=0)
    legend(axes)
    figure.savefig(file, dpi=150)
