"""Roll-outs of policies and controls in models of users, one Ray task per subject and model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, EvaluationWork
from prefrec_ray.evaluation.results.names import (
    CONSTANT,
    CURRENT,
    LOGGING_POLICY,
    RANDOM_ITEMS,
    shuffled,
    subject_of,
)
from prefrec_ray.evaluation.settings import ModelSettings
from prefrec_ray.ids import repetition_seed
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import ItemTable, smallest
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.users.ensemble import Ensemble
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.log_server import server_of_log, with_pins
from prefrec_ray.users.measures import part_histories, share_like_logged
from prefrec_ray.users.member import Member
from prefrec_ray.users.roll_out import (
    Imagined,
    Platform,
    Server,
    Traits,
    Visit,
    logged_levels,
    roll_out,
)

#: Random numbers in memory at a time.
_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Modelled:
    """Roll-out of one subject: `imagined`, without its inputs, and the supported share of its impressions.

    `histories` float32 [n, PARTS, P]: mean history of each user in each part, in the inputs that describe it; NaN:
    none. `logged` [n] and `logged_parts` [n, PARTS]: the users' levels in the log, by task. `corrected` [K, n]: levels
    in models with `Ensemble.corrections`.
    """

    imagined: Imagined
    within: float
    histories: np.ndarray
    logged: Mapping[str, np.ndarray]
    logged_parts: Mapping[str, np.ndarray]
    corrected: Mapping[str, np.ndarray]
    composition: float | None = None


def roll_out_all(work: EvaluationWork, ensemble: Ensemble, users: ray.ObjectRef) -> dict[str, Modelled]:
    """Return the roll-outs of the subjects by name, each with all `users` (a reference to `Histories`).

    Subjects are the logging policy (its logged items), the current policy if there is one, and all others except
    shuffled actions. These are not negative controls here: an item that is good for all users is good for other users
    too.
    """
    request, shared = work.request, [work.stored, users, ray.put(ensemble)]
    shuffled_policies = {shuffled(name) for name in request.policies}
    compared = [CURRENT] if request.current is not None else []
    names = [LOGGING_POLICY, *compared, *(s.name for s in request.subjects if s.name not in shuffled_policies)]
    rolls = [(name, number) for name in names for number in range(len(ensemble.members))]
    traits = [_traits.remote(number, shared) for number in range(len(ensemble.members))]
    stage = "roll out in models of users: subjects times models"
    parts = run_tasks(lambda roll: _roll.remote(*roll, shared, traits[roll[1]]), rolls, stage, work.progress)
    by_name = np.array(parts, dtype=object).reshape(len(names), -1)
    return {name: together(own) for name, own in zip(names, by_name.tolist(), strict=True)}


@ray.remote(num_cpus=1)
def _traits(number: int, shared: list[Any]) -> Traits:
    """Return the traits of the users in model `number`, for all subjects."""
    request, held, ensemble = (ray.get(reference) for reference in shared)
    platform = platform_of(request.dataset, held, request.settings.model, request.settings.seed)
    return Traits.find(platform, [ensemble.members[number]])


@ray.remote(num_cpus=1)
def _roll(name: str, number: int, shared: list[Any], traits: Traits) -> Modelled:
    """Roll out one subject, or the logging policy, in model `number`.

    Random numbers are equal for all subjects and differ between models.
    """
    request, held, ensemble = (ray.get(reference) for reference in shared)
    seed = request.settings.seed
    platform = platform_of(request.dataset, held, request.settings.model, seed)
    policy = request.current if name == CURRENT else request.actors.get(name)
    if policy is not None:
        platform = with_rest(platform, policy)

    def rolled(member: Member) -> Imagined:
        server = server_of(name, request, platform, number)
        if name != LOGGING_POLICY:
            server = with_pins(platform, server)
        return roll_out(platform, [member], server, repetition_seed(seed, number), traits)

    member, error = ensemble.members[number], ensemble.corrections[number]
    imagined = rolled(member)
    corrected = imagined.levels if error is None else rolled(replace(member, error=error)).levels
    within, columns = ensemble.pasts.share(imagined.inputs), ensemble.pasts.columns
    histories = part_histories(imagined, columns)
    shown = imagined.rows.reshape(-1, platform.page)
    composition = share_like_logged(held.pages, held.row, shown, platform.items.kinds)
    # About 20 MB of inputs per subject, which are not needed again.
    without = replace(imagined, inputs=np.empty_like(imagined.inputs[:0]))
    return Modelled(without, within, histories, *logged_levels(platform), corrected, composition)


def together(parts: Sequence[Modelled]) -> Modelled:
    """Join the roll-outs of one subject, one per model."""
    each = [part.imagined for part in parts]
    names = ("depth", "revisit_hours", "rows", "feedback", "daily_sessions")
    of_models: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in each]) for name in names}
    imagined = replace(
        each[0],
        levels=_levels([one.levels for one in each]),
        parts=_levels([one.parts for one in each]),
        counts=np.sum([one.counts for one in each], axis=0),
        sessions=sum(one.sessions for one in each) // len(each),
        **of_models,
    )
    within = float(np.mean([part.within for part in parts]))
    known = [part.composition for part in parts if part.composition is not None]
    composition = float(np.mean(known)) if known else None
    corrected = _levels([part.corrected for part in parts])
    return replace(parts[0], imagined=imagined, within=within, corrected=corrected, composition=composition)


def _levels(by_model: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the levels [1, n, ...] of each model, by task."""
    return {task: np.concatenate([levels[task] for levels in by_model]) for task in by_model[0]}


def platform_of(dataset: PreparedDataset, held: Histories, settings: ModelSettings, seed: int) -> Platform:
    """Return the platform of a data set with a random sample of the users of `held`."""
    users = np.sort(np.random.default_rng(seed).permutation(len(held.starts))[: settings.users])
    items, weight = dataset.items(), dataset.metadata.mixture_weight
    rest_ms = dataset.metadata.rest_ms
    requests = math.ceil(settings.requests * held.shown_per_examined)
    return Platform(dataset.state, dataset.normaliser, items, held, users, weight, requests, rest_ms)


def with_rest(platform: Platform, policy: Policy) -> Platform:
    """Return the platform with the rest of items that a server of `policy` has."""
    return replace(platform, rest_ms=policy.serving.rest_ms(platform.rest_ms))


def server_of(name: str, request: EvaluationRequest, platform: Platform, number: int = 0) -> Server:
    """Return the server of a subject. The logging policy repeats the items of the log, from the start after its end."""
    items, rng = platform.items, np.random.default_rng((request.settings.seed, 1, number))
    if name == LOGGING_POLICY:
        return server_of_log(platform)
    if name == RANDOM_ITEMS:
        return lambda visit: _random(rng, len(visit.states), len(items), visit.seen, visit.page)
    if name == CONSTANT:
        ranking = items.nearest(request.clone.mean_action[None], len(items))[0]
        return lambda visit: _first(ranking, len(visit.states), visit.seen, visit.page)
    if name == CURRENT and request.current is not None:
        return policy_server(request.current, items, rng)
    policy = request.actors.get(subject_of(name), request.clone.policy)
    return policy_server(policy, items, rng, own=name == subject_of(name))


def policy_server(policy: Policy, items: ItemTable, rng: np.random.Generator, own: bool = True) -> Server:
    """Return the server of `policy`. Without `own`, it serves in the states of other users, drawn at each impression.

    If too few items do not rest, a user is shown any of them.
    """

    def server(visit: Visit) -> np.ndarray:
        everyone = np.arange(len(visit.states))
        users = everyone if own else rng.permutation(everyone)
        out = None
        if visit.seen is not None:
            out = ExcludedItems.from_mask(visit.seen)
            few = policy.left(out) < visit.page
            if few.any():
                out = ExcludedItems.from_mask(visit.seen & ~few[:, None])
        recent = visit.recent()[users] if policy.penalises_repetition else None
        drawn = policy.draw(visit.states[users], visit.page, out, int(rng.integers(2**32)), recent)
        return items.rows(policy.items.ids[drawn.rows.ravel()])

    return server


def _random(rng: np.random.Generator, n: int, items: int, seen: np.ndarray | None, k: int = 1) -> np.ndarray:
    """Return k random items for each of n users, int64 [n, k], `seen` items (bool [n, items]) only if need be."""
    if seen is None and k == 1:
        return rng.integers(0, items, (n, 1))
    parts = np.array_split(np.arange(n), min(n, -(-n * items // _NUMBERS)))
    late = np.zeros((n, 1), bool) if seen is None else seen
    return np.concatenate([smallest(rng.random((len(part), items), np.float32) + late[part], k) for part in parts])


def _first(ranking: np.ndarray, n: int, seen: np.ndarray | None, k: int = 1) -> np.ndarray:
    """Return the first k items of `ranking` [items] for each of n users, `seen` ones only if need be, int64 [n, k]."""
    if seen is None:
        return np.tile(ranking[:k], (n, 1))
    return ranking[np.argsort(seen[:, ranking], axis=1, kind="stable")[:, :k]]
