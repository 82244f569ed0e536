"""Server state in memory, and how to restore it from a snapshot and the later rows of the log."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.ids import first_rows, hash_ids, places_in_runs
from prefrec_ray.logs.events.format import Kind
from prefrec_ray.mdp.frozen import FrozenRows
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.mdp.users import UserRows
from prefrec_ray.policy import Policy
from prefrec_ray.serving.settings import POPULARITY, ServeSettings
from prefrec_ray.serving.state.added import Added
from prefrec_ray.serving.state.counted_feedback import Answered
from prefrec_ray.serving.state.policies import Codes, ItemId, Loaded, Shelf
from prefrec_ray.serving.state.users import ServedUsers, UserId


class ServedState:
    """Users, items and arms, as a result of the rows of the log up to `next`."""

    def __init__(self, loaded: list[Loaded], settings: ServeSettings) -> None:
        self.settings, self.loaded = settings, loaded
        self.next = 0
        self.codes = Codes(loaded[0].policy.items)
        self.put: dict[ItemId, Added] = {}
        self.withdrawn: set[ItemId] = set()
        for one in loaded[1:]:
            self.codes.add(one.policy.items.ids)
        self.users = ServedUsers(settings)
        self._positive = UserRows({"positive": np.zeros(0, np.int64)})
        self.answered = Answered(round(settings.feedback_hours * 3_600_000))
        #: Trackers by the key of their states: policies with equal states share one.
        self.observers: dict[str, StateTracker] = {}
        for one in loaded:
            if one.states not in self.observers:
                self.observers[one.states] = one.policy.tracker(0)
        self.trackers = self._scaled()
        self.shelves: list[Shelf] = []

    def share(self, old: ServedState) -> None:
        """Continue with the users and items of `old`, whose policies have equal states except for their scales."""
        self.next, self.codes, self.users, self.answered = old.next, old.codes, old.users, old.answered
        self.put, self.withdrawn, self.observers = old.put, old.withdrawn, old.observers
        self._positive = old._positive
        self.trackers = self._scaled()

    def _scaled(self) -> list[StateTracker]:
        """Return the tracker of each arm, which scales states as its policy does."""
        return [self.observers[one.states].scaled_by(one.policy.normaliser) for one in self.loaded]

    @property
    def shares(self) -> list[tuple[str, str, float]]:
        """Return the name, the digest of the policy and the share of the users of each arm."""
        canaries = [arm.share for arm in self.settings.canaries]
        shares = [1.0 - sum(canaries), *canaries]
        return [(one.arm, one.digest, share) for one, share in zip(self.loaded, shares, strict=True)]

    @property
    def policy(self) -> Policy:
        """Return the policy of the main arm."""
        return self.loaded[0].policy

    @property
    def positive(self) -> np.ndarray:
        """Return the number of impressions with feedback above 0 of each item, by code, int64."""
        self._positive.grow(len(self.codes) - len(self._positive))
        return self._positive.read(slice(0, len(self._positive)))["positive"]

    def freeze_positive(self) -> FrozenRows:
        """Return `positive` as it is now."""
        self._positive.grow(len(self.codes) - len(self._positive))
        return self._positive.freeze()

    def stock(self) -> None:
        """Build the item tables of all arms from added and withdrawn items.

        Raises `UserError` if an arm has items that the main arm lacks: the log contains items of the main arm only, and
        feedback on other items would not become impressions.
        """
        shelves = self.new_shelves()
        for one, shelf in zip(self.loaded, shelves, strict=True):
            more = self.codes.ids[shelf.known & ~shelves[0].known]
            if len(more):
                raise UserError(
                    f"arm '{one.arm}': found item {more[0]}; expected only items of the main policy (PUT /items adds an"
                    " item to all arms)"
                )
        self.place(shelves)

    def new_shelves(self) -> list[Shelf]:
        """Return the items of all arms, with added and withdrawn items."""
        return [Shelf(one.policy, dict(self.put), set(self.withdrawn), self.codes) for one in self.loaded]

    def weights(self, number: int) -> np.ndarray:
        """Return weights above 0, float64, of the items of an arm from whose known distribution the server draws."""
        rows = self.shelves[number].rows
        weights = np.ones(len(self.shelves[number].policy.items))
        if self.loaded[number].digest == POPULARITY:
            weights[rows[rows >= 0]] += self.positive[: len(rows)][rows >= 0]
        return weights

    def place(self, shelves: list[Shelf]) -> None:
        """Replace the items of all arms."""
        for one, shelf in zip(self.loaded, shelves, strict=True):
            self.observers[one.states].use_items(shelf.catalogue)
            shelf.widen(len(self.codes))
        self.shelves = shelves

    def put_items(self, new: Mapping[ItemId, Added]) -> None:
        """Add items; they take effect with `stock`."""
        self.codes.add(self.codes.array(new))
        self.put.update(new)
        self.withdrawn.difference_update(new)
        for shelf in self.shelves:
            shelf.widen(len(self.codes))

    def withdraw_items(self, items: Collection[ItemId]) -> None:
        self.withdrawn.update(items)
        code = self.codes.find(self.codes.array(items))
        for shelf in self.shelves:
            shelf.withdraw(code[code >= 0])

    def fold_items(self, table: pa.Table) -> None:
        """Apply added and withdrawn items from rows of the log."""
        changes = pc.is_in(table["kind"], pa.array([Kind.ITEM, Kind.WITHDRAWN], pa.int8()))
        for row in table.filter(changes).select(["kind", "items", "embedding", "note"]).to_pylist():
            (item,) = row["items"]
            if row["kind"] == Kind.ITEM:
                self.put_items({item: Added.from_row(row)})
            else:
                self.withdraw_items([item])

    def advance(self, next_number: int, clock: int) -> None:
        """Register rows of the log up to this number; the last row has the time `clock`."""
        self.next = next_number
        self.answered.advance(next_number, clock)

    def add_users(self, users: list[UserId]) -> None:
        """Add new users, each once, without history."""
        self.users.add(users)
        for tracker in self.observers.values():
            tracker.grow(len(users))

    def keep_users(self, count: int) -> None:
        """Keep the first `count` users; later ones are without history."""
        self.users.keep(count)
        for tracker in self.observers.values():
            tracker.keep(count)

    def describe(self, row: int, features: Mapping[str, Any]) -> np.ndarray:
        """Store the newest features of a user, and return the previous profile for `undescribe`."""
        before = next(iter(self.observers.values())).profiles(np.array([row]))
        known = self.policy.state.user_features
        if known:
            given = {name: np.array([features.get(name)], dtype=object) for name in known}
            self.undescribe(row, self.policy.state.one_hot(given))
        return before

    def undescribe(self, row: int, profile: np.ndarray) -> None:
        """Restore the profile from before `describe`."""
        for tracker in self.observers.values():
            tracker.describe(np.array([row]), profile)

    def observe(
        self,
        users: np.ndarray,
        codes: np.ndarray,
        timestamps: np.ndarray,
        feedback: np.ndarray,
        dwell: np.ndarray,
        events: pa.Array | pa.ChunkedArray,
    ) -> None:
        """Apply the feedback [m, F] of the rows `users` [m] on items with the `codes` [m], in this order.

        The ids of the `events` [m] are pages.
        """
        pages = hash_ids(events).view(np.int64)
        columns = dict(zip(self.policy.state.feedback, feedback.T, strict=True))
        liked, counts = np.unique(codes[(feedback > 0).any(axis=1)], return_counts=True)
        self._positive.write(liked, "positive", self.positive[liked] + counts)
        # Policies with equal states know the same items.
        shelves = {one.states: shelf for one, shelf in zip(self.loaded, self.shelves, strict=True)}
        turns = _turns(users)
        for turn in range(int(turns.max(initial=-1)) + 1):
            now = np.flatnonzero(turns == turn)
            for key, shelf in shelves.items():
                rows = now[shelf.known[codes[now]]]  # states of this policy skip items that it does not know
                if len(rows):
                    of_rows = {name: values[rows] for name, values in columns.items()}
                    ids = self.codes.ids[codes[rows]]
                    self.observers[key].observe(
                        timestamps[rows], ids, of_rows, dwell_ms=dwell[rows], users=users[rows], pages=pages[rows]
                    )

    def apply(self, table: pa.Table) -> None:
        """Apply the next rows of the log: live, after a batch is on disk, and at the start of a server.

        A start calls `fold_items` and `stock` first.
        """
        kind, first = table["kind"].to_numpy(), table["number"][0].as_py()
        rows = self._rows_of(table, kind)
        described = (kind == Kind.RECOMMENDED) & pc.is_valid(table["note"]).to_numpy()
        for place in np.flatnonzero(described).tolist():
            self.describe(int(rows[place]), json.loads(table["note"][place].as_py()))
        self._apply_seen(table, kind, rows)
        received = table["received"].fill_null(0).to_numpy()
        minutes = received // 60_000
        for place in np.flatnonzero(np.append(minutes[1:] != minutes[:-1], True)).tolist():
            self.answered.advance(first + place + 1, int(received[place]))
        self.next = first + len(table)
        self._apply_feedback(table.filter(pa.array(kind == Kind.FEEDBACK)), rows[kind == Kind.FEEDBACK])

    def _rows_of(self, table: pa.Table, kind: np.ndarray) -> np.ndarray:
        """Return the rows of the users of events, -1 without a user; new users are added in the order of the log."""
        encoded = _users(table).combine_chunks().dictionary_encode()
        known = encoded.dictionary.to_pylist()
        self.add_users([user for user in known if self.users.find(user) is None])
        place = np.array([self.users.find(user) for user in known] + [-1], dtype=np.int64)
        index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.where(np.isin(kind, (Kind.RECOMMENDED, Kind.FEEDBACK)), place[index], -1)

    def _apply_seen(self, table: pa.Table, kind: np.ndarray, rows: np.ndarray) -> None:
        of_client = (kind == Kind.FEEDBACK) & pc.is_null(table["position"]).to_numpy()
        hidden = (kind == Kind.RECOMMENDED) | of_client
        if not hidden.any():
            return
        items = table["items"].filter(pa.array(hidden))
        codes = self.codes.find(pc.list_flatten(items).to_numpy())
        ends = np.cumsum(pc.list_value_length(items).fill_null(0).to_numpy())
        times = table["timestamp"].to_numpy()[hidden].tolist()
        for row, mine, time in zip(rows[hidden].tolist(), np.split(codes, ends[:-1]), times, strict=True):
            self.users.see(row, mine[mine >= 0].tolist(), time)

    def _apply_feedback(self, table: pa.Table, rows: np.ndarray) -> None:
        if not len(table):
            return
        items = pc.list_flatten(table["items"]).to_numpy()
        timestamp = table["timestamp"].to_numpy()
        columns = [table[name].to_pylist() for name in ("position", "event_id", "received")]
        for at, event, received, user, item in zip(*columns, _users(table).to_pylist(), items.tolist(), strict=True):
            row = event.rpartition("-")[2]  # the id of a recommendation ends with its row
            self.answered.add((event, user, item) if at is None else (int(row, 16), at), received or 0)
        self.users.came(rows, timestamp)
        values = pc.list_flatten(table["feedback"]).to_numpy().reshape(len(table), len(self.policy.state.feedback))
        codes = self.codes.find(items)
        kept = table["known"].to_numpy() & (codes >= 0)
        dwell, events = table["dwell_ms"].to_numpy()[kept], table["event_id"].filter(pa.array(kept))
        self.observe(rows[kept], codes[kept], timestamp[kept], values[kept], dwell, events)


def _users(table: pa.Table) -> pa.ChunkedArray:
    """Return the column with the ids of the users: whole numbers or text."""
    return table["user_number" if pc.any(pc.is_valid(table["user_number"])).as_py() else "user"]


def _turns(users: np.ndarray) -> np.ndarray:
    """Return for each entry the number of earlier entries of the same user, int64 [m]."""
    order = np.argsort(users, kind="stable")
    ordered = users[order]
    starts = first_rows(ordered)
    turns = np.empty(len(users), dtype=np.int64)
    turns[order] = places_in_runs(starts, len(users))
    return turns
