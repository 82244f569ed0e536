"""The policies of a server's arms, read from their bundles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

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
        definition = json.dumps(self.policy.state.to_dict(), sort_keys=True)
        return _hash(definition, self.policy.items.ids, self.policy.items.embeddings)


def load_policies(main: str, settings: ServeSettings, tables: Sequence[ItemTable] = ()) -> list[Loaded]:
    """Return the policies of all arms: the main one, then canaries. Raises `UserError` if their feedback differs.

    Equal tables of items become one object, with its index; an equal table in `tables` is reused.
    """
    places = {MAIN: main} | {arm.name: arm.policy for arm in settings.canaries}
    known = {_key(table): table for table in tables}
    loaded = []
    for name, place in places.items():
        uri = storage.followed(place)  # once: an alias that moves must not yield the digest of another policy
        policy = Policy.load(uri)
        policy = replace(policy, items=known.setdefault(_key(policy.items), policy.items))
        loaded.append(Loaded(name, policy, _hash(*map(storage.read_bytes, storage.list_files(uri)), size=6)))
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


def _key(items: ItemTable) -> str:
    """Return a key of all columns that serving uses."""
    return _hash(items.ids, items.embeddings, items.logged)


def _hash(*parts: Any, size: int = 8) -> str:
    """Return a hexadecimal hash of arrays, bytes and texts."""
    of = blake2b(digest_size=size)
    for part in parts:
        if isinstance(part, np.ndarray):
            of.update(str(part.dtype).encode() + part.tobytes())
        else:
            of.update(part if isinstance(part, bytes) else str(part).encode())
    return of.hexdigest()
