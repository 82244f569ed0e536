"""The estimator `model`: roll-outs of policies and controls in models of users, and their support by the log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.importance_weights import Weighed
from prefrec_ray.evaluation.estimators.logged_sessions import top_items
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.results.names import (
    CONSTANT,
    CURRENT,
    LOGGING_POLICY,
    RANDOM_ITEMS,
    Subject,
    shuffled,
    subject_of,
)
from prefrec_ray.evaluation.results.records import ServedItems, Support
from prefrec_ray.evaluation.results.scores import Scores, Z, bootstrap_interval, disagreement, repetition_seed, widened
from prefrec_ray.evaluation.settings import EvaluateSettings, ModelSettings
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import ItemTable, smallest
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import Task
from prefrec_ray.users.checks import backtest_error
from prefrec_ray.users.ensemble import Ensemble, Fits, start_fits
from prefrec_ray.users.histories import Histories, check_long_enough, read_histories
from prefrec_ray.users.measures import share_like_logged
from prefrec_ray.users.roll_out import (
    Imagined,
    Platform,
    Server,
    Visit,
    logged_levels,
    roll_out,
    server_of_log,
    with_pins,
)

#: Random numbers in memory at a time.
_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Modelled:
    """Roll-out of one subject: `imagined`, without its inputs, and the supported share of its impressions.

    `histories` float32 [n, P]: mean history of each user, in the inputs that describe it. `logged` [n]: the users'
    levels in the log, by task.
    """

    imagined: Imagined
    within: float
    histories: np.ndarray
    logged: Mapping[str, np.ndarray]
    composition: float | None = None


def start_models(dataset: PreparedDataset, settings: EvaluateSettings) -> Fits:
    """Start to fit and test the models of users of an evaluation. Raises `UserError` if histories are too short."""
    check_long_enough(dataset, ["train", settings.split])
    return start_fits(dataset, settings.seed, settings.model.models, tested=True)


def roll_out_all(
    request: EvaluationRequest, models: Fits, progress: Callable[[str, int, int], None]
) -> tuple[Ensemble, dict[str, Modelled]]:
    """Wait for the `models` of users; return them, and the roll-outs of the subjects by name.

    Subjects are the logging policy (its logged items), the current policy if there is one, and all others except
    shuffled actions. These are not negative controls here: an item that is good for all users is good for other users
    too.
    """
    settings, ensemble = request.settings, models.ensemble(progress)
    held = read_histories.remote(request.dataset.uri, settings.split, settings.seed)
    shared = [ray.put(request), held, ray.put(ensemble)]
    shuffled_policies = {shuffled(name) for name in request.policies}
    compared = [CURRENT] if request.current is not None else []
    names = [LOGGING_POLICY, *compared, *(s.name for s in request.subjects if s.name not in shuffled_policies)]
    rolls = [(name, number) for name in names for number in range(settings.model.models)]
    parts = run_tasks(
        lambda roll: _roll.remote(*roll, shared), rolls, "roll out in models of users: subjects times models", progress
    )
    by_name = np.array(parts, dtype=object).reshape(len(names), -1)
    return ensemble, {name: together(own) for name, own in zip(names, by_name.tolist(), strict=True)}


def model_scores(request: EvaluationRequest, task: Task, modelled: Mapping[str, Modelled]) -> Scores:
    """Return the levels of one task. Verdicts use this estimator first.

    The value of a user is the mean level of simulated sessions, averaged over models. Intervals contain the
    disagreement of models of different kinds and the error of back-tests. Users without a level under any subject are
    excluded. Settings: `model` (models, users, requests). Raises `UserError` if no user remains, under all models or
    one, or in the log.
    """
    settings = request.settings
    rolled = [s for s in request.subjects_on(task) if s.name in modelled]
    subjects = [Subject(LOGGING_POLICY, LOGGING_POLICY, "control"), *rolled]
    if request.current is not None:
        subjects.append(Subject(CURRENT, str(request.current.provenance.get("method", CURRENT)), "control"))
    imagined = [modelled[subject.name].imagined for subject in subjects]
    levels = np.stack([one.levels[task] for one in imagined], axis=2)  # [K, n, L]
    values = np.ma.masked_invalid(levels).mean(axis=0).filled(np.nan)  # [n, L], mean over models with a level
    known = np.isfinite(values).all(axis=1)
    if np.isnan(levels[:, known]).all(axis=1).any():  # no user has a level in at least one model
        least = subjects[np.isfinite(levels).sum(axis=1).min(axis=0).argmin()].name
        raise UserError(
            f"evaluation: no user of the model has a level on the task '{task}' under every policy and control (fewest "
            f"under '{least}'); expected more model.users or model.requests, or other estimators"
        )
    logged = modelled[LOGGING_POLICY].logged[task]
    if np.isnan(logged).all():
        raise UserError(
            f"evaluation: no user of the model has a level on the task '{task}' in the first "
            f"{settings.model.requests} impressions of the log; expected more model.requests, or other estimators"
        )
    by_model = np.nanmean(levels[:, known], axis=1)  # [K, L]
    gains = by_model - by_model[:, :1]
    tested = [0.0]  # the logging policy's error
    for subject in subjects[1:]:
        histories = modelled[subject.name].histories
        tested.append(backtest_error(logged - values[:, 0], modelled[LOGGING_POLICY].histories, histories))
    sizes = np.abs(gains.mean(axis=0))
    errors = np.divide(Z * np.array(tested), sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    return Scores(
        task=task,
        estimator="model",
        subjects=subjects,
        values=values[known],
        logging=values[known, 0],
        ess=None,
        counts={"users": int(known.sum()), "users_left_out": int((~known).sum())},
        settings={
            **settings.model.model_dump(),
            "logged_level": float(np.nanmean(logged)),
            "split": settings.split,
            "seed": settings.seed,
        },
        networks=(by_model, by_model[:, :1]),
        of_kinds=True,
        own=[
            {
                **_own_units(one, imagined[0], settings.seed, error),
                "gains_by_model": tuple(map(float, of_models)),
                "settings": {"relative_error": float(error), "backtest_error": found},
            }
            for one, error, found, of_models in zip(imagined, errors, tested, gains.T, strict=True)
        ],
        relative_error=errors,
        current=len(subjects) - 1 if request.current is not None else None,
    )


def supports(
    request: EvaluationRequest, modelled: Mapping[str, Modelled], weighed: Mapping[str, Weighed]
) -> dict[str, Support]:
    """Return the support by policy, with the effective sample sizes of policies with weights."""
    return {
        name: Support(
            states=modelled[name].within,
            composition=modelled[name].composition,
            ess=weighed[name].ess["weights"] if name in weighed else None,
            ess_users=weighed[name].ess_users if name in weighed else None,
            **({"pages": weighed[name].pages} if name in weighed and weighed[name].pages else {}),
        )
        for name in request.policies
    }


def served_in(served: ServedItems, request: EvaluationRequest, imagined: Imagined) -> ServedItems:
    """Return `served` with the items of a roll-out.

    A roll-out excludes items that rest, as a server does. If they rest for ever, an item reaches each user at most
    once, however high its score is.
    """
    ids, shown = request.clone.policy.items.ids, np.flatnonzero(imagined.counts)
    items = Counter(dict(zip(ids[shown].tolist(), imagined.counts[shown].tolist(), strict=True)))
    return served.model_copy(update={**top_items(items), "counted": "roll-out", "ceiling": imagined.ceiling})


def _own_units(one: Imagined, logging: Imagined, seed: int, error: float) -> dict[str, Any]:
    """Return the fields of a subject's record in the users' own units; no time to the next session if no user returns.

    The 95 % intervals contain the same errors as those of levels. `error`: that of the back-test, as a share of a gain.
    """
    fields: dict[str, Any] = {"sessions": one.sessions}
    # The last number is a bound of the mean: no session is shorter, and no user comes back earlier.
    measures = {
        "mean_depth": (one.depth, logging.depth, 1.0),
        "mean_revisit_hours": (one.revisit_hours, logging.revisit_hours, 0.0),
    }
    for name, (values, logged, least) in measures.items():
        if np.isfinite(values).any():
            users, models = (np.ma.masked_invalid(values).mean(axis=axis).compressed() for axis in (0, 1))
            low, high = widened(*bootstrap_interval(users, seed), models)
            mean = float(np.nanmean(values))
            changes = np.ma.masked_invalid(values).mean(axis=1) - np.ma.masked_invalid(logged).mean(axis=1)
            of_models = math.hypot(float(disagreement(changes.compressed())), error * float(changes.mean()))
            bounds = max(least, mean - math.hypot(mean - low, of_models)), mean + math.hypot(high - mean, of_models)
            fields |= {name: mean, f"{name}_ci": bounds}
    return fields


@ray.remote(num_cpus=1)
def _roll(name: str, number: int, shared: list[Any]) -> Modelled:
    """Roll out one subject, or the logging policy, in model `number`, with users of the split drawn by the seed.

    Random numbers are equal for all subjects and differ between models.
    """
    request, held, ensemble = (ray.get(reference) for reference in shared)
    seed = request.settings.seed
    platform = platform_of(request.dataset, held, request.settings.model, seed)
    policy = request.current if name == CURRENT else request.actors.get(name)
    if policy is not None:
        platform = with_rest(platform, policy)
    server = server_of(name, request, platform, number)
    if name != LOGGING_POLICY:
        server = with_pins(platform, server)
    imagined = roll_out(platform, [ensemble.members[number]], server, repetition_seed(seed, number))
    within, columns = ensemble.pasts.share(imagined.inputs), ensemble.pasts.columns
    by_user = imagined.inputs[:, columns].reshape(-1, len(platform.users), len(columns))
    histories = np.nanmean(by_user, axis=0) if len(by_user) else np.zeros(by_user.shape[1:], np.float32)
    shown = imagined.rows.reshape(-1, platform.page)
    composition = share_like_logged(held.pages, held.row, shown, platform.items.kinds)
    # About 20 MB of inputs per subject, which are not needed again.
    without = replace(imagined, inputs=np.empty_like(imagined.inputs[:0]))
    return Modelled(without, within, histories, logged_levels(platform), composition)


def together(parts: Sequence[Modelled]) -> Modelled:
    """Join the roll-outs of one subject, one per model."""
    each = [part.imagined for part in parts]
    names = ("depth", "revisit_hours", "rows", "feedback", "daily_sessions")
    of_models: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in each]) for name in names}
    imagined = replace(
        each[0],
        levels={task: np.concatenate([one.levels[task] for one in each]) for task in each[0].levels},
        counts=np.sum([one.counts for one in each], axis=0),
        sessions=sum(one.sessions for one in each) // len(each),
        **of_models,
    )
    within = float(np.mean([part.within for part in parts]))
    known = [part.composition for part in parts if part.composition is not None]
    composition = float(np.mean(known)) if known else None
    return replace(parts[0], imagined=imagined, within=within, composition=composition)


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
