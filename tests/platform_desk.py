"""A server without HTTP, and small policies for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.layers import Mlp, mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.folder.snapshots import Snapshot
from prefrec_ray.serving.requests.engine import Command, Engine, Reply
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.web.problems import Problem

STATE = StateDefinition(
    feedback=("like", "watch"),
    user_features={"country": ("de", "fr")},
    action_dim=3,
    feedback_kinds={"like": "binary", "watch": "ratio"},
)


def make_policy(
    seed: int = 0, items: int = 40, text: bool = False, state: StateDefinition = STATE, **changes: Any
) -> Policy:
    """A policy of random networks that draws from the catalogue; ids from 0 on, or "item 0" and so on."""
    rng = np.random.default_rng(seed)
    dim = state.action_dim
    layers = [
        ((rng.normal(size=(b, a)) / np.sqrt(a)).astype(np.float32), rng.normal(size=b).astype(np.float32))
        for a, b in pairwise([state.width, 16, dim])
    ]
    ids = np.array([f"item {i}" for i in range(items)]) if text else np.arange(items)
    table = ItemTable(ids, np.random.default_rng(7).uniform(-1, 1, (items, dim)))
    scale = Normaliser(rng.normal(size=state.width), rng.uniform(0.5, 2, state.width))
    critic = Critic([QFunction(mlp(state.width + dim, [16], 1).requires_grad_(False), (), dim)])
    options = {"serving": ServingSettings(), "critic": critic, **changes}
    low, high = -np.ones(dim, np.float32), np.ones(dim, np.float32)
    return Policy(DeterministicActor(Mlp.from_layers(layers), low, high), state, scale, table, **options)


def incumbent_settings(folder: Path, ids: list[object]) -> dict[str, Any]:
    """Return `serve.incumbent` with the items and states of `make_policy`."""
    items = make_policy(items=len(ids)).items
    columns = {f"e{number}": column for number, column in enumerate(items.embeddings.T)}
    pa.csv.write_csv(pa.table({"id": pa.array(ids), **columns}), folder / "items.csv")
    table = {"path": str(folder / "items.csv"), "id": "id", "embedding": list(columns)}
    features = {"country": ("de", "fr")}
    return {"items": table, "feedback": {"like": "binary", "watch": "ratio"}, "user_features": features}


class Desk:
    """A server's folder, served from without HTTP."""

    def __init__(self, policy: str | Path, folder: str | Path, **settings: Any) -> None:
        self.opened = Opened(str(policy), str(folder), ServeSettings(**settings))
        self.engine = Engine(self.opened.state, self.opened.log, self.opened.log_id, seed=0)

    def do(self, *commands: Command, clock: int = 1_700_000_000_000) -> Sequence[Reply | Problem]:
        """The answers to a batch."""
        plan = self.engine.plan(commands, clock)
        if plan.events:
            first = self.engine.log.commit(plan.events)
            self.engine.take_in(plan, first)
        return plan.replies

    def one(self, command: Command, clock: int = 1_700_000_000_000) -> dict[str, Any]:
        """The body of the answer to one command. Raises `Problem`."""
        (answer,) = self.do(command, clock=clock)
        if isinstance(answer, Problem):
            raise answer
        return answer.body

    def stop(self, save: bool = False) -> None:
        """Ends, with a snapshot or as if it was killed."""
        if save:
            Snapshot.from_state(self.engine.state).write(self.opened.folder)
        self.opened.close()

    def states(self, now: int, arm: int = 0) -> dict[Any, np.ndarray]:
        """The state of each user at `now`."""
        state = self.engine.state
        states = state.trackers[arm].states(np.full(len(state.users), now))
        return dict(zip(state.users.ids, states, strict=True))


def with_server(policy: Path, folder: Path, act: Callable[[Server], Awaitable[None]], **settings: Any) -> None:
    """A server that does what `act` asks of it, also without HTTP: micro-batches, items that come, and reloads."""

    async def whole() -> None:
        server = Server(Opened(str(policy), str(folder), ServeSettings(**settings)))
        await server.start()
        try:
            await act(server)
        finally:
            await server.stop()

    asyncio.run(whole())
