"""Weights of items in a state, from scores (Q or a density) and penalties for items like recent ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.exposure import repetitions
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition, closest, decays
from prefrec_ray.policy.landmarks import ALL_SCORED, Landmarks, landmarks_of
from prefrec_ray.policy.networks.actors import Density
from prefrec_ray.policy.networks.critic import Critic

#: Preferred half-life, in impressions, of the running mean with which an item is compared.
HALF_LIFE = 32.0


@dataclass(frozen=True, eq=False)
class Situations:
    """Scaled states float32 [n, S] of n users before an impression, and what the users may see and have seen.

    `excluded`: items that may not be recommended; None: none. `recent`: kinds of the last impressions, int32 [n,
    MEMORY, K] (mdp/exposure.py); None: no impressions. `page`: items before on the page, rows int64 [n, j], -1 for
    none; they are also `excluded`, and `recent` contains their kinds.
    """

    states: np.ndarray
    excluded: ExcludedItems | None = None
    recent: np.ndarray | None = None
    page: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: slice | np.ndarray) -> Situations:
        """Return some situations, with states that torch can read."""
        states = np.require(self.states[rows], dtype=np.float32, requirements=["C", "W"])
        excluded = self.excluded
        if excluded is not None:
            excluded = excluded[rows] if isinstance(rows, slice) else excluded.take(rows)
        seen = (None if part is None else part[rows] for part in (self.recent, self.page))
        return Situations(states, excluded, *seen)


@dataclass(frozen=True)
class RecentItems:
    """Mean embedding of recent items: the `columns` [A] of a scaled state, times `std` plus `mean` [A].

    An embedding times `unit` is in the unit of the mean, which the next item moves by the share `weight`.
    """

    columns: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    unit: float
    weight: float

    @classmethod
    def find(cls, state: StateDefinition, normaliser: Normaliser, items: ItemTable) -> RecentItems | None:
        """Find the running mean with the half-life nearest to `HALF_LIFE`; None if states have no running means.

        The mean is divided by the mean squared length of an item. One item repeated for hours then has a similarity of
        about 1 in any unit of the embeddings, and random items have about 0.
        """
        length = float(np.square(items.embeddings, dtype=np.float64).sum(axis=1).mean())
        if not state.item_half_lives or length == 0:
            return None
        chosen = closest(state.item_half_lives, HALF_LIFE)
        start = state.groups["items"].start + chosen * state.action_dim
        columns = np.arange(start, start + state.action_dim)
        mean, std = (np.asarray(part, np.float64)[columns] / length for part in (normaliser.mean, normaliser.std))
        decay = float(decays((state.item_half_lives[chosen],), 1)[0])
        return cls(columns, mean.astype(np.float32), std.astype(np.float32), 1 / length, 1 - decay)

    def likeness(self, states: np.ndarray, candidates: np.ndarray, page: np.ndarray | None = None) -> np.ndarray:
        """Return similarities [n, k] of k items, [n, k, A] or [k, A], to the recent items in scaled states [n, S].

        `page` float32 [n, j, A]: the embeddings of earlier items of the page, NaN for none. They are added to the mean
        with the weights that they have after a long history.
        """
        shown = states[:, self.columns] * self.std + self.mean
        if page is not None:
            there = ~np.isnan(page).any(axis=2)
            later = there[:, ::-1].cumsum(axis=1)[:, ::-1]  # an item's number from the end, 1 for the last item
            keep = np.float32(1 - self.weight) ** np.arange(page.shape[1] + 1, dtype=np.float32)
            share = np.where(there, np.float32(self.weight * self.unit) * keep[np.maximum(later - 1, 0)], 0)
            shown = keep[there.sum(axis=1)][:, None] * shown
            shown += (share[:, None] @ np.where(there[:, :, None], page, 0))[:, 0]
        return likeness_of(shown, candidates)


@dataclass(frozen=True)
class Weighing:
    """Log weights of `items`: scores of `scorer` in units of their scale, minus penalties.

    The diversity penalty is `variety` times the similarity to recent items (`likeness`). The repetition penalty is
    `repetition` times the number of recent impressions of the same kind. A density has no penalties.

    The value of a page is the sum over its positions of the examination times Q. This is SlateQ's assumption (Ie et al.
    2019): items of a page interact only through the user's choice. Q does not depend on the position, so that the best
    page is ordered by Q, and a page is drawn position by position. Items before a position count as shown.
    """

    serving: ServingSettings
    scorer: Critic | Density
    items: ItemTable
    likeness: RecentItems | None = None

    def __call__(
        self, states: np.ndarray, rows: np.ndarray | None = None, scale: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores [n, k] of the items in `rows` in units of their scale, and the scale [n, 1].

        `rows` are [n, k], or [k] for all states; None: all items, whose scores may be interpolated (landmarks.py). If
        no scale is given, it comes from these items.
        """
        scores = self._scores(states, rows)
        scale = self._scale(scores) if scale is None else scale
        return _scaled(scores, scale), scale

    def among(self, states: np.ndarray, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the scores [m] of the candidates `rows` [m] of each of n states, in units of their scale.

        For a large catalogue. The scale of scores comes from the landmarks, so that it does not depend on the
        candidates. More than `ALL_SCORED` candidates have interpolated scores.
        """
        landmarks = self._landmarks
        if landmarks is None:
            return [self(states[at : at + 1], one)[0][0] for at, one in enumerate(rows)]
        of_landmarks = self._score(states, landmarks.embeddings.astype(np.float32))
        scale = self._scale(self._with_effects(of_landmarks, landmarks.rows))
        scores = []
        for at, one in enumerate(rows):
            state = slice(at, at + 1)
            if len(one) <= ALL_SCORED:
                scores.append(self(states[state], one, scale[state])[0][0])
                continue
            interpolated = landmarks.interpolate(of_landmarks[state], self.embeddings(one))
            scores.append(_scaled(self._with_effects(interpolated, one), scale[state])[0])
        return scores

    @property
    def penalises(self) -> bool:
        """Return True if the log weight of an item depends on the items shown before."""
        varied = self.serving.variety and self.likeness is not None
        return bool(self.scorer.standardised and (varied or self.serving.repetition))

    def after(self, at: Situations, rows: np.ndarray) -> Situations:
        """Return the situations after one more item on the page, `rows` [n]. Excluded items stay the same."""
        page = rows[:, None] if at.page is None else np.concatenate([at.page, rows[:, None]], axis=1)
        if at.recent is None:
            return replace(at, page=page)
        recent = np.concatenate([self.items.kinds[rows][:, None], at.recent[:, :-1]], axis=1)
        return replace(at, page=page, recent=recent)

    def penalised(self, scores: np.ndarray, at: Situations, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the log weights [n, k] of the items in `rows`: their scaled `scores` [n, k] minus the penalties."""
        return Penalties(self, at, rows).subtracted(scores)

    def embeddings(self, rows: np.ndarray | None) -> np.ndarray:
        """Return the embeddings of the items in `rows`; of all items without a copy, as every request needs them."""
        return self.items.embeddings if rows is None else self.items.embeddings.take(rows, axis=0)

    def _scores(self, states: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Return the scores [n, k] of the items in `rows`."""
        landmarks = self._landmarks if rows is None else None
        if landmarks is None:
            scores = self._score(states, self.embeddings(rows))
        else:
            scores = self._score(states, landmarks.embeddings.astype(np.float32)) @ self._interpolation
        return self._with_effects(scores, rows)

    def _score(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return the scores [n, k] of k items by their embeddings: [n, k, A], or [k, A] for all states."""
        of_each = candidates if candidates.ndim == 3 else np.broadcast_to(candidates, (len(states), *candidates.shape))
        return self.scorer.scores(states, of_each)

    def _with_effects(self, scores: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Return the scores [n, k] of the items in `rows`, plus the effects of their kinds."""
        if self._effects is None:
            return scores
        return scores + (self._effects if rows is None else self._effects[rows])

    def _scale(self, scores: np.ndarray) -> np.ndarray:
        """Return the scale [n, 1]: 1 for a density, and if all items have the same score."""
        if not self.scorer.standardised:
            return np.ones((len(scores), 1), np.float32)
        deviation = scores.std(axis=1, keepdims=True)
        return np.where(deviation > 0, float(self.serving.temperature) * deviation, 1.0)

    @cached_property
    def _effects(self) -> np.ndarray | None:
        return None if self.items.kind_codes is None else self.scorer.effects(self.items.kind_codes)

    @cached_property
    def _landmarks(self) -> Landmarks | None:
        """Return the landmarks; None if all items are scored. A density costs less than the interpolation."""
        return landmarks_of(self.items) if self.scorer.standardised else None

    @cached_property
    def _interpolation(self) -> np.ndarray:
        """Return the matrix float32 [L, I] from the scores of the landmarks to the scores of all items."""
        assert self._landmarks is not None
        return self._landmarks.interpolate(np.eye(len(self._landmarks.rows)), self.items.embeddings)


class Penalties:
    """Penalties of k items at the positions of a page, one after another; `rows` as for `Weighing.penalised`.

    An item that is added counts as shown from then on.
    """

    def __init__(self, weigh: Weighing, at: Situations, rows: np.ndarray | None) -> None:
        self._weigh, self._rows, self._recent = weigh, rows, at.recent
        temperature = float(weigh.serving.temperature)
        penalised = weigh.scorer.standardised
        self._per_likeness = np.float32(float(weigh.serving.variety) / temperature if penalised else 0)
        self._per_repeat = np.float32(float(weigh.serving.repetition) / temperature if penalised else 0)
        self._similar: np.ndarray | None = None
        if weigh.likeness is not None and self._per_likeness:
            page = at.page
            shown = None if page is None else np.where((page >= 0)[..., None], weigh.items.embeddings[page], np.nan)
            self._embeddings = weigh.embeddings(rows)
            if self._embeddings.ndim == 3:  # products with a row per coordinate take a third of the time
                self._embeddings = np.ascontiguousarray(self._embeddings.swapaxes(1, 2)).swapaxes(1, 2)
            self._similar = weigh.likeness.likeness(at.states, self._embeddings, shown)

    def subtracted(self, scores: np.ndarray) -> np.ndarray:
        """Return the scaled `scores` [n, k] minus the penalties at the next position."""
        logits, recent = scores, self._recent
        if self._similar is not None:
            logits = logits - self._per_likeness * self._similar
        if recent is not None and recent.shape[2] and self._per_repeat:
            items = np.arange(len(self._weigh.items)) if self._rows is None else self._rows
            window = int(self._weigh.serving.repetition_window)
            logits = logits - self._per_repeat * repetitions(recent, self._weigh.items.kinds, items, window)
        return logits.copy() if logits is scores else logits

    def add(self, rows: np.ndarray) -> None:
        """Add one item of the page for each situation, `rows` [n] of the item table."""
        if self._similar is not None:
            assert self._weigh.likeness is not None
            weight, unit = self._weigh.likeness.weight, self._weigh.likeness.unit
            item = np.float32(weight * unit) * self._weigh.embeddings(rows)
            self._similar *= np.float32(1 - weight)
            self._similar += likeness_of(item, self._embeddings)
        if self._recent is not None:
            kinds = self._weigh.items.kinds[rows][:, None]
            self._recent = np.concatenate([kinds, self._recent[:, :-1]], axis=1)


def likeness_of(shown: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the inner products [n, k] of vectors [n, A] with k items, [n, k, A] or [k, A]."""
    if candidates.ndim == 2:
        return shown @ candidates.T
    return (shown[:, None] @ candidates.swapaxes(1, 2))[:, 0]


def _scaled(scores: np.ndarray, scale: np.ndarray) -> np.ndarray:
    if not np.isfinite(scores).all():
        raise UserError("policy: found a score that is not finite; expected networks and states of usual size")
    return scores / scale
