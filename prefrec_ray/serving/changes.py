"""Changes of items and reloads of policies in a running server."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import ITEMS, Event, Kind
from prefrec_ray.serving.folder.disk import Disk, clock, of_disk
from prefrec_ray.serving.folder.opened import Opened, arms_event, save_items
from prefrec_ray.serving.metrics import Metrics
from prefrec_ray.serving.requests.bodies import DeleteItems, PutItems
from prefrec_ray.serving.requests.engine import Engine
from prefrec_ray.serving.state.policies import Loaded, Shelf, check_embedding, load_policies
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.web.problems import Problem

#: Number of withdrawn items after which the item tables of an arm are built again.
_WITHDRAWN = 256


class Changes:
    """Changes of items and policies, one at a time, prepared in the background.

    The lock `turn` is held only while rows are written and the new state is put in place.
    """

    def __init__(self, opened: Opened, engine: Engine, metrics: Metrics, disk: Disk, turn: asyncio.Lock) -> None:
        self._opened, self._engine, self._metrics, self._disk, self._turn = opened, engine, metrics, disk, turn
        self._one = asyncio.Lock()

    async def put_items(self, body: PutItems) -> dict[str, Any]:
        """Add items, and reply when policies can draw them. Raises `Problem`."""
        codes = self._engine.state.codes
        for one in body.items:
            if isinstance(one.id, int) != codes.whole:
                raise Problem(422, f"items: id {one.id!r}; expected {codes.kind}, as for all items")
        new = {one.id: np.array(one.embedding, np.float32) for one in body.items}
        if len(new) < len(body.items):
            raise Problem(422, "items: found an id twice; expected each id once")
        async with self._one:
            state = self._engine.state
            for loaded in state.loaded:
                for item, embedding in new.items():
                    try:
                        check_embedding(loaded.policy, item, embedding, state.put, state.codes)
                    except UserError as error:
                        raise Problem(409, str(error)) from error
            async with self._turn:
                await self._log([(Kind.ITEM, item, embedding.tolist()) for item, embedding in new.items()])
                state.put_items(new)
            await self._restock()
        return {"items": len(new)}

    async def delete_items(self, body: DeleteItems) -> dict[str, Any]:
        """Withdraw items; unknown items are counted. Raises `Problem`."""
        async with self._one:
            state = self._engine.state
            ids = state.codes.array(dict.fromkeys(body.ids))
            async with self._turn:
                await self._log([(Kind.WITHDRAWN, item, None) for item in ids.tolist()])
                known = int((state.codes.find(ids) >= 0).sum())
                state.withdraw_items(ids.tolist())
            if any(len(shelf.gone) > _WITHDRAWN for shelf in state.shelves):
                await self._restock()
        return {"items": known, "unknown": len(body.ids) - known}

    async def _log(self, rows: list[tuple[Kind, int | str, list[float] | None]]) -> None:
        """Write rows for items, with embeddings. The caller holds the lock."""
        if rows:
            now = clock()
            events = [Event(kind, now, received=now, items=[item], embedding=one) for kind, item, one in rows]
            self._engine.state.advance(await self._disk.commit(events) + len(events), now)

    async def _restock(self) -> None:
        """Build the item tables of all arms in the background, and replace the old ones."""
        state = self._engine.state
        shelves = await self._disk.aside(lambda: [state.new_shelf(number) for number in range(len(state.loaded))])
        await self._save_items(shelves[0])
        async with self._turn:
            state.place(shelves)

    async def _save_items(self, shelf: Shelf) -> None:
        """Write the items next to the log.

        Raises `Problem`; if the client repeats the HTTP request, the server tries again.
        """
        try:
            await self._disk.aside(save_items, self._opened.folder, shelf.catalogue)
        except (OSError, UserError) as error:
            raise of_disk(error, f"{ITEMS} was not written") from error

    async def reload(self) -> dict[str, Any]:
        """Load the policies of all arms again and serve them.

        Raises `Problem` 409 if a policy cannot be loaded; the server keeps the old policies. Raises `Problem` 507 or
        503 if the items next to the log cannot be written; the server then serves the new policies.
        """
        async with self._one:
            old = self._engine.state
            try:
                tables = [one.policy.items for one in old.loaded]
                loaded = await self._disk.aside(load_policies, self._opened.policy, old.settings, tables)
                await self._disk.aside(self._opened.check, loaded)
                state = await self._disk.aside(self._made, loaded, old)
            except UserError as error:
                self._metrics.reloads.labels("refused").inc()
                raise Problem(409, str(error)) from error
            async with self._turn:
                if state.users is old.users:
                    state.next = old.next
                else:  # rows that were logged in the meantime
                    for table in self._engine.log.tables(state.next):
                        state.replay(table)
                now = clock()
                state.advance(await self._disk.commit([arms_event(state, now)]) + 1, now)
                self._engine.state = state
            self._metrics.reloads.labels("done").inc()
            await self._save_items(state.shelves[0])
        digests = {one.arm: one.digest for one in loaded}
        return {"policies": digests, "changed": digests != {one.arm: one.digest for one in old.loaded}}

    def _made(self, loaded: list[Loaded], old: ServedState) -> ServedState:
        """Return the server state of new policies, up to the newest row of the log. Runs in the background."""
        state = ServedState(loaded, old.settings)
        if set(state.observers) == set(old.observers) and state.first_states == old.first_states:
            state.share(old)
            state.stock()
            return state
        state.put_items(old.put)
        state.withdraw_items(old.withdrawn)
        state.stock()
        for table in self._engine.log.tables():
            state.replay(table)
        return state
