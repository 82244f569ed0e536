"""Server state in memory, and how to restore it from a snapshot and the later rows of the log."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.errors import UserError
from prefrec_ray.ids import first_rows, run_lengths
from prefrec_ray.logs.events.format import Kind
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.policy import Policy
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.state.counted_feedback import Answered
from prefrec_ray.serving.state.policies import Loaded
from prefrec_ray.serving.state.shelf import Codes, ItemId, Shelf
from prefrec_ray.serving.state.users import ServedUsers, UserId


class ServedState:
    """Users, items and arms, as a result of the rows of the log up to `next`."""

    def __init__(self, loaded: list[Loaded], settings: ServeSettings) -> None:
        self.settings, self.loaded = settings, loaded
        self.next = 0
        self.codes = Codes(loaded[0].policy.items)
        self.put: dict[ItemId, np.ndarray] = {}
        self.withdrawn: set[ItemId] = set()
        for one in loaded[1:]:
            self.codes.add(one.policy.items.ids)
        self.users = ServedUsers(settings)
        self.answered = Answered(round(settings.feedback_hours * 3_600_000))
        self._keys = [one.states for one in loaded]
        #: Trackers by the key of their states: policies with equal states share one.
        self.observers: dict[str, StateTracker] = {}
        for one, key in zip(loaded, self._keys, strict=True):
            if key not in self.observers:
                self.observers[key] = one.policy.tracker(0)
        self.trackers: list[StateTracker] = []
        self._scale()
        self.shelves: list[Shelf] = []

    @property
    def first_states(self) -> str:
        """Return the key of the main arm's states, on which the codes of the items depend."""
        return self._keys[0]

    def share(self, old: ServedState) -> None:
        """Continue with the users and items of `old`, whose policies have equal states except for their scales."""
        self.next, self.codes, self.users, self.answered = old.next, old.codes, old.users, old.answered
        self.put, self.withdrawn, self.observers = old.put, old.withdrawn, old.observers
        self._scale()

    def _scale(self) -> None:
        each = zip(self.loaded, self._keys, strict=True)
        self.trackers = [self.observers[key].scaled_by(one.policy.normaliser) for one, key in each]

    @property
    def policy(self) -> Policy:
        """Return the policy of the main arm."""
        return self.loaded[0].policy

    def stock(self) -> None:
        """Build the item tables of all arms from added and withdrawn items.

        Raises `UserError` if an arm has items that the main arm lacks: the log contains items of the main arm only, and
        feedback on other items would not become impressions.
        """
        shelves = [self.new_shelf(number) for number in range(len(self.loaded))]
        for one, shelf in zip(self.loaded, shelves, strict=True):
            more = self.codes.ids[shelf.known & ~shelves[0].known]
            if len(more):
                raise UserError(
                    f"arm '{one.arm}': found item {more[0]}; expected only items of the main policy (PUT /items adds an"
                    " item to all arms)"
                )
        self.place(shelves)

    def new_shelf(self, number: int) -> Shelf:
        """Return the items of an arm, with added and withdrawn items."""
        return Shelf(self.loaded[number].policy, dict(self.put), set(self.withdrawn), self.codes)

    def place(self, shelves: list[Shelf]) -> None:
        """Replace the items of all arms."""
        for shelf, key in zip(shelves, self._keys, strict=True):
            self.observers[key].use_items(shelf.catalogue)
            shelf.widen(len(self.codes))
        self.shelves = shelves

    def put_items(self, new: Mapping[ItemId, np.ndarray]) -> None:
        """Add items and their embeddings; they take effect with `stock`."""
        self.codes.add(self.codes.array(new))
        self.put.update(new)
        self.withdrawn.difference_update(new)
        for shelf in self.shelves:
            shelf.widen(len(self.codes))

    def withdraw_items(self, items: Collection[ItemId]) -> None:
        """Withdraw items."""
        self.withdrawn.update(items)
        code = self.codes.find(self.codes.array(items))
        for shelf in self.shelves:
            shelf.withdraw(code[code >= 0])

    def fold_items(self, table: pa.Table) -> None:
        """Apply added and withdrawn items from rows of the log."""
        kind = table["kind"].to_numpy()
        for place in np.flatnonzero(np.isin(kind, (Kind.ITEM, Kind.WITHDRAWN))).tolist():
            (item,) = table["items"][place].as_py()
            if kind[place] == Kind.ITEM:
                self.put_items({item: np.array(table["embedding"][place].as_py(), np.float32)})
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
        self, users: np.ndarray, codes: np.ndarray, timestamps: np.ndarray, feedback: np.ndarray, dwell: np.ndarray
    ) -> None:
        """Apply the feedback [m, F] of the rows `users` [m] on items with the `codes` [m], in this order."""
        columns = dict(zip(self.policy.state.feedback, feedback.T, strict=True))
        turns = _turns(users)
        for turn in range(int(turns.max(initial=-1)) + 1):
            now = np.flatnonzero(turns == turn)
            done: set[str] = set()
            for shelf, key in zip(self.shelves, self._keys, strict=True):
                if key in done:
                    continue
                done.add(key)
                rows = now[shelf.known[codes[now]]]  # states of this policy skip items that it does not know
                if len(rows):
                    of_rows = {name: values[rows] for name, values in columns.items()}
                    ids = self.codes.ids[codes[rows]]
                    self.observers[key].observe(timestamps[rows], ids, of_rows, dwell_ms=dwell[rows], users=users[rows])

    def replay(self, table: pa.Table) -> None:
        """Apply rows of the log that follow the rows applied so far. Call `fold_items` and `stock` first."""
        kind = table["kind"].to_numpy()
        numbers = pc.any(pc.is_valid(table["user_number"])).as_py()
        users = table["user_number" if numbers else "user"]
        rows = self._rows_of(users, kind)
        received = table["received"].fill_null(0).to_numpy()
        first = self.next
        for place in np.flatnonzero(kind == Kind.RECOMMENDED).tolist():
            features = table["note"][place].as_py()
            if features:
                self.describe(int(rows[place]), json.loads(features))
        self._replay_seen(table, kind, rows)
        self.next += len(table)
        minute = received // 60_000
        for place in np.flatnonzero(np.append(minute[1:] != minute[:-1], True)).tolist() if len(table) else ():
            self.answered.advance(first + place + 1, int(received[place]))
        back = np.flatnonzero(kind == Kind.FEEDBACK)
        if len(back):
            back_users = users.take(pa.array(back)).to_pylist()
            self._replay_feedback(table.take(pa.array(back)), back_users, rows[back], received[back])
        assert self.next == first + len(table)

    def _rows_of(self, users: pa.ChunkedArray, kind: np.ndarray) -> np.ndarray:
        """Return the rows of the users of events, -1 without a user; new users are added in the order of the log."""
        of_people = np.isin(kind, (Kind.RECOMMENDED, Kind.FEEDBACK))
        encoded = users.combine_chunks().dictionary_encode()
        known = encoded.dictionary.to_pylist()
        rows = [self.users.find(user) for user in known]
        new = [user for user, row in zip(known, rows, strict=True) if row is None]
        self.add_users(new)
        place = np.array([self.users.find(user) for user in known], dtype=np.int64)
        index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.where(of_people & (index >= 0), place[index] if len(place) else -1, -1)

    def _replay_seen(self, table: pa.Table, kind: np.ndarray, rows: np.ndarray) -> None:
        shown = {"recommended": (Kind.RECOMMENDED, Kind.FEEDBACK), "answered": (Kind.FEEDBACK,), "nothing": ()}
        places = np.flatnonzero(np.isin(kind, shown[self.settings.leave_out]))
        lists = table["items"].take(pa.array(places)).combine_chunks()
        lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
        codes = self.codes.find(lists.flatten().to_numpy(zero_copy_only=False))
        lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths)
        of_recommended = kind[places] == Kind.RECOMMENDED
        organic = pc.is_null(table["position"]).to_numpy()[places]
        for number, place in enumerate(places.tolist()):
            if of_recommended[number] or organic[number] or self.settings.leave_out == "answered":
                mine = codes[ends[number] - lengths[number] : ends[number]]
                self.users.see(int(rows[place]), mine[mine >= 0].tolist())

    def _replay_feedback(self, table: pa.Table, users: list[UserId], rows: np.ndarray, received: np.ndarray) -> None:
        items = pc.list_flatten(table["items"]).to_numpy()
        timestamp = table["timestamp"].to_numpy()
        position, event_id = table["position"].to_pylist(), table["event_id"].to_pylist()
        of_rows = zip(position, event_id, users, items.tolist(), received.tolist(), strict=True)
        for at, event, user, item, when in of_rows:
            row = event.rpartition("-")[2]  # the id of a recommendation ends with its row
            self.answered.add((event, user, item) if at is None else (int(row, 16), at), when)
        self.users.came(rows, timestamp)
        known = table["known"].to_numpy()
        width = len(self.policy.state.feedback)
        values = pc.list_flatten(table["feedback"]).to_numpy().reshape(len(table), width)
        dwell = table["dwell_ms"].to_numpy()
        codes = self.codes.find(items)
        keep = known & (codes >= 0)
        self.observe(rows[keep], codes[keep], timestamp[keep], values[keep], dwell[keep])


def _turns(users: np.ndarray) -> np.ndarray:
    """Return for each entry the number of earlier entries of the same user, int64 [m]."""
    order = np.argsort(users, kind="stable")
    ordered = users[order]
    starts = first_rows(ordered)
    turns = np.empty(len(users), dtype=np.int64)
    turns[order] = np.arange(len(users)) - np.repeat(starts, run_lengths(starts, len(users)))
    return turns
