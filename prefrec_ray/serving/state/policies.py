"""The policies of a server's arms, read from their bundles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.policy import Policy
from prefrec_ray.serving.settings import MAIN, ServeSettings


@dataclass(frozen=True)
class Loaded:
    """A policy of an arm, from its bundle; `digest` is the digest of the bundle's files."""

    arm: str
    policy: Policy
    digest: str

    @property
    def states(self) -> str:
        """Return a key that is equal for policies with the same states of users, except for their scale."""
        of = blake2b(json.dumps(self.policy.state.to_dict(), sort_keys=True).encode(), digest_size=8)
        of.update(repr(self.policy.items.ids.dtype).encode())
        of.update(self.policy.items.ids.tobytes())
        of.update(self.policy.items.embeddings.tobytes())
        return of.hexdigest()


def load_policies(main: str, settings: ServeSettings, tables: Sequence[ItemTable] = ()) -> list[Loaded]:
    """Return the policies of all arms: the main one, canaries, shadows. Raises `UserError` if their feedback differs.

    Equal tables of items become one object, with its index; an equal table in `tables` is reused.
    """
    places = {MAIN: main} | {arm.name: arm.policy for arm in (*settings.canaries, *settings.shadows)}
    # Resolved once: an alias that moves in the meantime must not yield the digest of another policy.
    resolved = {name: storage.followed(uri) for name, uri in places.items()}
    loaded = [Loaded(name, Policy.load(uri), _digest(uri)) for name, uri in resolved.items()]
    known = list(tables)
    for number, one in enumerate(loaded):
        same = next((table for table in known if _equal(table, one.policy.items)), None)
        if same is None:
            known.append(one.policy.items)
        else:
            loaded[number] = replace(one, policy=replace(one.policy, items=same))
    first = loaded[0].policy
    for other in loaded[1:]:
        for what, of_first, of_other in (
            ("feedback", first.state.feedback, other.policy.state.feedback),
            ("kinds of feedback", dict(first.state.feedback_kinds), dict(other.policy.state.feedback_kinds)),
            ("user features", dict(first.state.user_features), dict(other.policy.state.user_features)),
            ("session timeout", first.state.session_gap_ms, other.policy.state.session_gap_ms),
            ("type of item ids", first.items.ids.dtype.kind, other.policy.items.ids.dtype.kind),
        ):
            if of_first != of_other:
                raise UserError(f"{places[other.arm]}: found {what} {of_other}; expected {of_first} as in {main}")
    return loaded


def _equal(a: ItemTable, b: ItemTable) -> bool:
    """Return True if two tables are equal in all columns that serving uses."""
    logged = [table.logged if table.logged is not None else np.zeros(0) for table in (a, b)]
    pairs = ((a.ids, b.ids), (a.embeddings, b.embeddings), logged)
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


def _digest(uri: str) -> str:
    of = blake2b(digest_size=6)
    for file in storage.list_files(uri):
        of.update(storage.read_bytes(file))
    return of.hexdigest()
