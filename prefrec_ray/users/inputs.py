"""Inputs of the networks in a model of users: the user, the item, and what the user was shown before.

The signals of an impression are the item's embedding, its inner products with the mean embedding of recent items and
with the user's tastes, its effects on users at this time of day, and the user's exposure to the item and its kinds.
Inputs are the signals of the candidate, and running means of the signals and of the feedback of earlier impressions.
None of them assumes a law of users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from prefrec_ray.mdp.bulk import running_means
from prefrec_ray.mdp.exposure import WINDOWS, RecentRows
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition, decays, scaled_feedback
from prefrec_ray.users.effects import Effects
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.traits import Tastes

#: Half-lives of the running means, in impressions.
HALF_LIVES = (8.0, 32.0)
#: Counts at which an effect of exposure may begin. The mean of a count does not show how often a threshold was passed.
DOSES = np.array([1, 2, 4, 8])
#: State groups and columns that are inputs. Lengths and times of earlier sessions would let good sessions of a roll-out
#: reinforce themselves.
SEEN = ("profile", "time")


@dataclass(frozen=True)
class Inputs:
    """Definition of W inputs for a data set, and their range and scale in its log.

    An impression has S signals, and V = S + F running means per half-life, with F columns of feedback.
    """

    state: StateDefinition
    normaliser: Normaliser
    kinds: np.ndarray  # int32 [I, K], of all items
    effects: Effects
    tastes: Tastes
    mean: np.ndarray  # float32 [W]
    std: np.ndarray  # float32 [W]
    low: np.ndarray  # float32 [W], range of the log: a network is not trained outside of it
    high: np.ndarray  # float32 [W]

    @classmethod
    def from_histories(
        cls, state: StateDefinition, normaliser: Normaliser, items: ItemTable, data: Histories
    ) -> tuple[Inputs, np.ndarray]:
        """Create the inputs with the scale of the impressions of `data`, and return them with these impressions'
        inputs: `logged(data, fitted=True)`, float32 [N, W].
        """
        tastes = Tastes.from_histories(data)
        none = np.empty(0, np.float32)
        effects = Effects.from_histories(data, items.kinds, data.state[:, state.groups["time"]])
        bare = cls(state, normaliser, items.kinds, effects, tastes, none, none, none, none)
        raw = bare.logged(data, fitted=True)
        std = np.maximum(raw.std(axis=0), 1e-6)
        scaled = replace(bare, mean=raw.mean(axis=0), std=std, low=raw.min(axis=0), high=raw.max(axis=0))
        return scaled, raw  # which does not depend on the scale

    def logged(self, data: Histories, fitted: bool = False) -> np.ndarray:
        """Return the inputs before each impression of whole histories, float32 [N, W].

        `fitted`: the histories are those of `from_histories`, and effects of kinds come from the other half of the
        users.
        """
        half = 1 - data.user % 2 if fitted else np.full(len(data.row), 2)
        effects = self.effects.at(data.row, data.action, data.state[:, self.state.groups["time"]], half)
        recent = means_before(data.action, data.starts).reshape(len(data.row), len(HALF_LIVES), -1)
        tastes = self.tastes(data)[data.user]
        signals = self.signals_of(data.state, data.action, recent, tastes, effects, data.exposure)
        values = np.concatenate([signals, scaled_feedback(data.feedback, self.state)], axis=1)
        return np.concatenate([data.state[:, self.seen], signals, means_before(values, data.starts)], axis=1)

    def scaled(self, raw: np.ndarray) -> np.ndarray:
        """Return inputs [n, W] clipped to the range of the log, in units of their deviation. Overwrites `raw`."""
        np.clip(raw, self.low, self.high, out=raw)
        raw -= self.mean
        raw /= self.std
        return raw

    @property
    def signals(self) -> int:
        """Return S."""
        products = len(HALF_LIVES) + len(self._shown_tastes) + len(self.state.feedback)
        return self.state.action_dim + products + self.effects.of_kinds.shape[2] + self._exposures

    @property
    def values(self) -> int:
        """Return V."""
        return self.signals + len(self.state.feedback)

    @cached_property
    def seen(self) -> np.ndarray:
        """Return the columns of a state that are inputs, int64 [C]."""
        kept = [name in SEEN or name.split("/")[0] in SEEN for name in self.state.names]
        return np.flatnonzero(kept)

    @property
    def width(self) -> int:
        """Return W."""
        return len(self.seen) + self.signals + len(HALF_LIVES) * self.values

    @property
    def counts(self) -> np.ndarray:
        """Return a mask of exposures and their running means, bool [W]."""
        signals = np.zeros(self.values, dtype=bool)
        signals[self.signals - self._exposures : self.signals] = True
        seen = np.zeros(len(self.seen), dtype=bool)
        return np.concatenate([seen, signals[: self.signals], *[signals] * len(HALF_LIVES)])

    @property
    def feedback(self) -> np.ndarray:
        """Return a mask of running means of feedback, bool [W]."""
        values = np.arange(self.values) >= self.signals
        rest = np.zeros(len(self.seen) + self.signals, dtype=bool)
        return np.concatenate([rest, *[values] * len(HALF_LIVES)])

    @property
    def history(self) -> np.ndarray:
        """Return a mask of exposures, their running means, and the running means of embeddings, bool [W]."""
        history = self.counts
        start = len(self.seen) + self.signals
        for number in range(len(HALF_LIVES)):
            first = start + number * self.values
            history[first : first + self.state.action_dim] = True
        return history

    @property
    def _exposures(self) -> int:
        """Return the number of signals of exposure."""
        return self.kinds.shape[1] * (len(WINDOWS) * len(DOSES) + 1) + 1

    @cached_property
    def _shown_tastes(self) -> np.ndarray:
        """Return the columns of the tastes in a state, int64 [T, A]: those that earlier feedback has shown."""
        parts = self.state.embedding_parts(("tastes",))
        return np.array(parts, np.int64).reshape(-1, self.state.action_dim)

    def signals_of(
        self,
        state: np.ndarray,
        action: np.ndarray,
        recent: np.ndarray,
        tastes: np.ndarray,
        effects: np.ndarray,
        exposure: np.ndarray,
    ) -> np.ndarray:
        """Return the signals, float32 [n, S], of items with embeddings `action` [n, A], `effects` [n, F + 2]
        and `exposure` [n, X].

        `state` [n, S] is scaled; `recent` [n, len(HALF_LIVES), A] are the mean embeddings of recent items, and `tastes`
        [n, F, A] the users' tastes from their whole log.
        """
        columns = self._shown_tastes
        mean, std = (np.asarray(part, np.float32)[columns] for part in (self.normaliser.mean, self.normaliser.std))
        vectors = np.concatenate([recent, state[:, columns] * std + mean, tastes], axis=1)
        products = np.matmul(vectors, action[:, :, None])[..., 0]
        return np.concatenate([action, products, effects, doses(exposure)], axis=1, dtype=np.float32)


class Past:
    """Inputs of n users who start without impressions, step by step; equal to `Inputs.logged`.

    `exposure` float32 [n, X]: of the items of the last `inputs`.
    """

    exposure: np.ndarray

    def __init__(self, inputs: Inputs, tastes: np.ndarray) -> None:
        """Create the users with `tastes` [n, F, A] from their whole log."""
        users = len(tastes)
        self._inputs, self._tastes, self._recent = inputs, tastes, RecentRows(users, inputs.kinds)
        self._decay = decays(HALF_LIVES, inputs.values)
        self._sums, self._weight = np.zeros((users, len(self._decay))), np.zeros((users, len(self._decay)))

    def inputs(self, state: np.ndarray, rows: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Return the inputs, float32 [n, W], of the items in `rows` [n] with embeddings `action` [n, A]."""
        means = (self._sums / np.maximum(self._weight, 1.0)).astype(np.float32)
        recent = means.reshape(len(rows), len(HALF_LIVES), -1)[:, :, : action.shape[1]]
        self.exposure = self._recent.exposures(rows)
        time, everyone = state[:, self._inputs.state.groups["time"]], np.full(len(rows), 2)
        effects = self._inputs.effects.at(rows, action, time, everyone)
        signals = self._inputs.signals_of(state, action, recent, self._tastes, effects, self.exposure)
        self._signals, self._rows = signals, rows
        return np.concatenate([state[:, self._inputs.seen], signals, means], axis=1)

    def observe(self, feedback: np.ndarray, examined: np.ndarray) -> None:
        """Add the impressions of the last `inputs` with their feedback [n, F], of the users in the mask `examined`."""
        users = np.flatnonzero(examined)
        values = np.concatenate([self._signals, scaled_feedback(feedback, self._inputs.state)], axis=1)[users]
        self._sums[users] = self._sums[users] * self._decay + np.tile(values, len(HALF_LIVES))
        self._weight[users] = self._weight[users] * self._decay + 1.0
        self._recent.observe(self._rows[users], users)


def doses(exposure: np.ndarray) -> np.ndarray:
    """Return signals of `exposure` [n, X]: indicators of counts of at least `DOSES`, and the other columns."""
    by_kind = exposure[:, :-1].reshape(len(exposure), -1, len(WINDOWS) + 1)
    reached = by_kind[:, :, :-1, None] >= DOSES
    columns = [reached.reshape(len(exposure), -1), by_kind[:, :, -1], exposure[:, -1:]]
    return np.concatenate(columns, axis=1, dtype=np.float32)


def means_before(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return running means of `values` [N, V] over each user's earlier impressions, float32 [N, len(HALF_LIVES) V]."""
    count = values.shape[1]
    means = np.empty((len(values), count * len(HALF_LIVES)), np.float32)
    source = np.tile(np.arange(count), len(HALF_LIVES))
    running_means(values, starts, decays(HALF_LIVES, count), source, out=means)
    return means
