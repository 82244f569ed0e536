"""Preferences: pairs of segments, scored bucket by bucket, labelled, and written as one file per task and split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray import storage
from prefrec_ray.dataset.prepare.users import LogUsers
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream
from prefrec_ray.preferences import DRAWS, Pairs, PreferenceSettings, Sessions, TeacherSettings, find_scoring, label
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import PAIRINGS, SPLITS
from prefrec_ray.storage.parquet import read_parquet, write_parquet


def write_preferences(
    users: LogUsers, settings: PreferenceSettings, mixture_weight: float, seed: int, folder: str, progress: Progress
) -> None:
    """Write `preferences/<task>/{train,validation}.parquet`.

    A pairing has the same pairs for every task and teacher. Raises `UserError` if too few users have enough
    impressions, and if a teacher ties all pairs.
    """
    pairs = draw_pairs(users, settings, seed)
    # All segments in one list: pair by pair, first one side and then the other.
    segments = np.concatenate([np.stack([p.user, p.start], axis=2).reshape(-1, 2) for p in pairs.values()])
    scores = _scores(users, segments, settings, mixture_weight, folder, progress)
    ends = np.cumsum([2 * len(p) for p in pairs.values()])
    scores_of = dict(zip(pairs, np.split(scores, ends[:-1]), strict=True))
    for number, task in enumerate(settings.tasks):
        storage.make_folder(storage.join(folder, "preferences", task))
        for split in ("train", "validation"):
            tables = []
            for teacher in _teachers(settings, split):
                drawn, scoring = (split, teacher.pairing), settings.scorings.index(teacher.scoring)
                column = scores_of[drawn][:, number, scoring].reshape(-1, 2)
                tables.append(_table(users, pairs[drawn], column, settings.length, teacher.name))
                if split == "train":
                    _check_not_all_tied(tables[-1], task)
            table = pa.concat_tables(tables)
            table = table.add_column(0, "pair_id", pa.array(np.arange(len(table))))
            write_parquet(table, storage.join(folder, "preferences", task, f"{split}.parquet"))


def draw_pairs(users: LogUsers, settings: PreferenceSettings, seed: int) -> dict[tuple[str, str], Pairs]:
    """Return pairs by (split, pairing). `Pairs.user` are rows of `users`, ordered by id for any number of buckets."""
    pairs: dict[tuple[str, str], Pairs] = {}
    for split in ("train", "validation"):
        eligible = eligible_users(users, split, settings)
        for pairing in dict.fromkeys(teacher.pairing for teacher in _teachers(settings, split)):
            rng = np.random.default_rng((seed, Stream.PAIRS, SPLITS.index(split), PAIRINGS.index(pairing)))
            count = settings.pairs if split == "train" else settings.validation_pairs // 2
            drawn = DRAWS[pairing](rng, users.steps[eligible], settings.length, count)
            pairs[split, pairing] = Pairs(eligible[drawn.user], drawn.start)
    return pairs


def eligible_users(users: LogUsers, split: str, settings: PreferenceSettings) -> np.ndarray:
    """Return the rows, by id, of users with more than `min_requests` steps. Raises `UserError` without two."""
    order = pc.sort_indices(users.ids).to_numpy().astype(np.int64)
    rows = order[users.split[order] == SPLITS.index(split)]
    enough = rows[users.steps[rows] > settings.min_requests]
    if len(enough) < 2:
        most = f" (the largest number is {users.steps[rows].max()})" if len(rows) else ""
        raise UserError(
            f"preferences: {len(enough)} of {len(rows)} {split} users have more than {settings.min_requests}"
            f" steps, pages or impressions{most}; expected at least 2: lower preferences.length"
            " and preferences.min_requests, or use more users"
        )
    return enough


def _teachers(settings: PreferenceSettings, split: str) -> list[TeacherSettings]:
    """Return the teachers of a file; held-out pairs have both pairings for every scoring."""
    if split == "train":
        return list(settings.teachers)
    pairs = ((pairing, scoring) for scoring in settings.scorings for pairing in PAIRINGS)
    return [TeacherSettings.model_validate({"pairing": pairing, "scoring": scoring}) for pairing, scoring in pairs]


def _scores(
    users: LogUsers, segments: np.ndarray, settings: PreferenceSettings, weight: float, folder: str, progress: Progress
) -> np.ndarray:
    """Return scores float64 [segments, tasks, scorings], computed with one Ray task per bucket of users."""
    buckets, first_user = np.unique(users.bucket, return_index=True)
    rows = [np.flatnonzero(users.bucket[segments[:, 0]] == bucket) for bucket in buckets]

    def submit(number: int) -> ray.ObjectRef:
        user, start = segments[rows[number]].T
        file = storage.join(folder, "sessions", f"part-{buckets[number]:05d}.parquet")
        return _bucket_scores.remote(file, user - first_user[number], start, settings, weight)

    scores = np.empty((len(segments), len(settings.tasks), len(settings.scorings)))
    of_buckets = run_tasks(submit, range(len(buckets)), "label preferences: files", progress)
    for places, of_bucket in zip(rows, of_buckets, strict=True):
        scores[places] = of_bucket
    return scores


@ray.remote(num_cpus=1)
def _bucket_scores(
    file: str, user: np.ndarray, start: np.ndarray, settings: PreferenceSettings, weight: float
) -> np.ndarray:
    """Return scores [n, tasks, scorings] of segments of the bucket's users; `user` is their position in the file."""
    table = read_parquet(file, ["user_id", "depth", "level_depth", "level_frequency"])
    scores = np.empty((len(user), len(settings.tasks), len(settings.scorings)))
    for i, task in enumerate(settings.tasks):
        sessions = Sessions.from_table(table, task, weight)
        for j, scoring in enumerate(settings.scorings):
            scores[:, i, j] = find_scoring(scoring)(sessions, user, start, settings.length)
    return scores


def _table(users: LogUsers, pairs: Pairs, scores: np.ndarray, length: int, teacher: str) -> pa.Table:
    sides = {}
    for side in (0, 1):
        sides[f"user_{side}"] = users.ids.take(pa.array(pairs.user[:, side]))
        sides[f"start_{side}"] = pairs.start[:, side]
    return pa.table(
        {
            **sides,
            "length": np.full(len(pairs), length),
            "label": label(*scores.T),
            "score_0": scores[:, 0],
            "score_1": scores[:, 1],
            "teacher": pa.array([teacher] * len(pairs), pa.string()),
        }
    )


def _check_not_all_tied(table: pa.Table, task: str) -> None:
    if pc.all(pc.equal(table["label"], 0.5)).as_py():
        raise UserError(
            f"preferences: all {len(table)} pairs of teacher {table['teacher'][0]} for task {task} are tied (the score "
            f"of the first is {table['score_0'][0]}); expected segments that differ: set a larger preferences.length, "
            "another teacher, or remove the task from preferences.tasks"
        )
