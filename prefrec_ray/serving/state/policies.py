"""Policies of a server's arms, and their items: the items of the bundle, plus added items, minus withdrawn items."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import About
from prefrec_ray.logs.listing import is_csv
from prefrec_ray.logs.schemas import PLAIN, check_columns, padded_columns
from prefrec_ray.logs.side_tables import ItemsTable
from prefrec_ray.mdp.embeddings import content_embeddings
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import kinds_of
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import LEARNED_DIM, StateDefinition
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.policy.distribution import Candidates
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.serving.settings import MAIN, IncumbentSettings, ServeSettings
from prefrec_ray.serving.state.added import Added, extended

ItemId = int | str


@dataclass(frozen=True)
class Loaded:
    """A policy of an arm, from its bundle; `digest` is the digest of the bundle's files.

    A digest in `LOG_POLICIES` marks the main arm before the first promotion. Its `policy` then only defines states and
    items.
    """

    arm: str
    policy: Policy
    digest: str

    @cached_property
    def states(self) -> str:
        """Return a key that is equal for policies with the same states of users, except for their scale."""
        definition = json.dumps(self.policy.state.model_dump(mode="json"), sort_keys=True)
        return _hash(definition, self.policy.items.ids, self.policy.items.embeddings, self.policy.items.kind_codes)

    def about(self, log_id: str = "00000000") -> About:
        """Return the description of a log with this id that the policy can be served from."""
        definition = self.policy.state
        return About(
            log_id=log_id,
            item_ids="int64" if self.policy.items.ids.dtype.kind == "i" else "string",
            feedback=definition.feedback,
            feedback_kinds=dict(definition.feedback_kinds),
            user_features={name: tuple(values) for name, values in definition.user_features.items()},
            session_gap_ms=definition.session_gap_ms,
        )


def load_policies(main: str | None, settings: ServeSettings, tables: Sequence[ItemTable] = ()) -> list[Loaded]:
    """Return the policies of all arms: the bundle `main`, then canaries. Raises `UserError` if their feedback differs.

    If `main` is None, the main arm is `settings.log_policy`, with the states and items of the canary, or without one of
    the settings. Equal tables of items become one object, with its index; an equal table in `tables` is reused.
    """
    places = {} if main is None else {MAIN: main}
    places |= {arm.name: arm.policy for arm in settings.canaries}
    known = {_key(table): table for table in tables}
    loaded = []
    for name, place in places.items():
        uri = storage.followed(place)  # once: an alias that moves must not yield the digest of another policy
        policy = Policy.load(uri)
        policy = replace(policy, items=known.setdefault(_key(policy.items), policy.items))
        loaded.append(Loaded(name, policy, _hash(*map(storage.read_bytes, storage.list_files(uri)), size=6)))
    if main is None:
        policy = loaded[0].policy if loaded else _without_networks(settings.incumbent)
        loaded.insert(0, Loaded(MAIN, policy, settings.log_policy))
    for other in loaded[1:]:
        where = f"{places[other.arm]}: found another kind of policy than in the main arm"
        loaded[0].about().check_same(other.about(), where)
    return loaded


def _without_networks(settings: IncumbentSettings | None) -> Policy:
    """Return a policy that only defines the states and items of the settings."""
    assert settings is not None
    items = _items(settings.items)
    state = StateDefinition(
        feedback=tuple(settings.feedback),
        user_features=settings.user_features,
        action_dim=items.embeddings.shape[1],
        session_gap_ms=round(settings.session_gap_minutes * 60_000),
        feedback_kinds=settings.feedback,
    )
    actions = np.zeros(state.action_dim, np.float32)
    network = Mlp.from_layers([(np.zeros((state.action_dim, state.width), np.float32), actions)])
    scale = Normaliser(np.zeros(state.width), np.ones(state.width))
    serving = DETERMINISTIC.model_copy(update={"rest_days": settings.rest_days})
    return Policy(DeterministicActor(network, actions - 1, actions + 1), state, scale, items, serving)


def _items(source: ItemsTable) -> ItemTable:
    """Return the items of a table. Kinds, and embeddings if the table has none, are made from its features."""
    from prefrec_ray.logs.tables import content_of, item_table  # imports Ray Data

    file, columns, form = check_columns(source, PLAIN)
    whole = pa.types.is_integer(columns.field(source.id).type)
    if whole and is_csv(file):
        whole = not padded_columns(file, [source.id], form)
    table = item_table(source, pa.int64() if whole else pa.string())
    if source.embedding:
        items = ItemTable.from_table(table, source.path)
    else:
        ids, alone, no_maker = table["item_id"].to_numpy(), np.full((len(table), 1), np.nan), np.full(len(table), -1)
        tags = content_of(table, ids).tags
        items = ItemTable(ids, content_embeddings(alone, tags, no_maker, np.ones(len(ids)), LEARNED_DIM, fewer=True))
    if not source.features:
        return items
    return items.with_kinds(kinds_of(items.ids, items.embeddings, lambda ids: content_of(table, ids)))


def _key(items: ItemTable) -> str:
    """Return a key of all columns that serving uses."""
    return _hash(items.ids, items.embeddings, items.kind_codes)


def _hash(*parts: Any, size: int = 8) -> str:
    """Return a hexadecimal hash of arrays, bytes and texts."""
    of = blake2b(digest_size=size)
    for part in parts:
        if isinstance(part, np.ndarray):
            of.update(str(part.dtype).encode() + part.tobytes())
        else:
            of.update(part if isinstance(part, bytes) else str(part).encode())
    return of.hexdigest()


class Codes:
    """A whole number for every item of any policy: its row in the table `base`, or a number after the last row."""

    def __init__(self, base: ItemTable) -> None:
        self.base = base
        self._more: dict[ItemId, int] = {}
        self._ids = base.ids

    def __len__(self) -> int:
        return len(self.base) + len(self._more)

    @property
    def ids(self) -> np.ndarray:
        """Return the ids, by code."""
        if len(self._ids) < len(self):  # joined once for all added items: there may be a million
            self._ids = np.concatenate([self.base.ids, self.array(self._more)])
        return self._ids

    @property
    def whole(self) -> bool:
        """Return True if ids are whole numbers, False if they are text."""
        return self.base.ids.dtype.kind == "i"

    @property
    def kind(self) -> str:
        """Return the type of the ids in words."""
        return "a whole number" if self.whole else "text"

    def array(self, ids: Iterable[Any]) -> np.ndarray:
        """Return the ids of the right type as an array, without ids of another type."""
        kind = int if self.whole else str
        return self.typed([item for item in ids if isinstance(item, kind)])

    def typed(self, ids: Collection[Any]) -> np.ndarray:
        """Return ids of the right type as an array."""
        return np.fromiter(ids, np.int64, len(ids)) if self.whole else np.array(list(ids), np.str_)

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return codes int64 [n] of ids of the right type; -1 for an unknown id."""
        codes = self.base.find(ids)
        if self._more:
            for place in np.flatnonzero(codes < 0).tolist():
                codes[place] = self._more.get(ids[place : place + 1].tolist()[0], -1)
        return codes

    def add(self, ids: np.ndarray) -> None:
        """Assign codes to the ids without a code."""
        new = ids[self.find(ids) < 0]
        self._more |= {item: len(self) + number for number, item in enumerate(new.tolist())}


class Shelf:
    """Items that one policy may show. Added items make a new object.

    `policy` draws from the items that are not withdrawn. `catalogue` also holds withdrawn items, since states of users
    depend on their embeddings. By code: `rows` in the policy's table, -1 for an item that is not in it, and whether an
    item is `known` to the catalogue. Rows in `gone` were withdrawn later.
    """

    def __init__(self, bundle: Policy, put: Mapping[ItemId, Added], withdrawn: set[ItemId], codes: Codes) -> None:
        unknown = bundle.items.find(codes.array(put)) < 0
        new = {item: put[item] for item, is_new in zip(put, unknown, strict=True) if is_new}
        self.catalogue = extended(bundle.items, codes.array(new), list(new.values())) if new else bundle.items
        gone = self.catalogue.find(codes.array(withdrawn))
        kept = np.ones(len(self.catalogue), dtype=bool)
        kept[gone[gone >= 0]] = False
        shown = self.catalogue if kept.all() else _selected(self.catalogue, kept)
        self.policy = bundle if shown is bundle.items else bundle.with_items(shown)
        self.rows = shown.find(codes.ids)
        self.known = self.catalogue.find(codes.ids) >= 0
        self.gone = np.zeros(0, np.int64)
        self._marks = np.zeros(len(shown) + 1, bool)  # all False between calls; the last one belongs to -1
        if len(shown):  # builds cells, landmarks or the index before the first draws
            state = np.zeros((1, self.policy.state.width), np.float32)
            self.policy.draw(state, 1, None, seed=0)
            self.policy.draw_among(state, [Candidates(np.arange(1), np.zeros(1))], [1], [0])

    def withdraw(self, codes: np.ndarray) -> None:
        """Withdraw items, effective immediately."""
        rows = self.rows[codes]
        self.gone = np.union1d(self.gone, rows[rows >= 0])

    def widen(self, size: int) -> None:
        """Extend the arrays to `size` codes. The new codes belong to no item of this object."""
        more = size - len(self.rows)
        self.rows = np.concatenate([self.rows, np.full(more, -1)])
        self.known = np.concatenate([self.known, np.zeros(more, bool)])

    def excluded(self, codes: np.ndarray, blocks: Mapping[str, Sequence[str]]) -> np.ndarray:
        """Return the rows of excluded items, in any order.

        These are the items of some codes (-1: none), withdrawn items, and items with a value of a kind in `blocks`.
        """
        rows = [self.rows[codes[codes >= 0]], self.gone]
        for name, wanted in self.find_values(blocks).items():
            rows.append(np.flatnonzero(np.isin(self.policy.items.kind(name).codes, wanted)))
        return np.concatenate(rows)

    def are_in(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return a mask of the `rows` [m] (-1: none) that are among the rows `out`, bool [m]."""
        self._marks[out[out >= 0]] = True
        found = self._marks[rows]
        self._marks[out] = False
        return found

    def find_values(self, blocks: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
        """Return the codes of values of kinds, by kind. Raises `UserError` for an unknown kind or value."""
        items = self.policy.items
        if blocks and items.kind_codes is None:
            raise UserError(f"found kind '{next(iter(blocks))}'; expected none, as the policy's items have no kinds")
        return {name: list(map(items.kind(name).find, values)) for name, values in blocks.items()}


def _selected(items: ItemTable, kept: np.ndarray) -> ItemTable:
    kinds = None if items.kind_codes is None else items.kind_codes[kept]
    ids, embeddings = items.ids[kept], items.embeddings[kept]
    return replace(items, ids=ids, embeddings=embeddings, about=None, kind_codes=kinds)
