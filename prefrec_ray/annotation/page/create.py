"""Creation of a store: pairs are drawn, described and scored, once. All later starts need the folder only.

STORE/pairs/          the questions, as `prefrec pairs` writes them: for `prefrec import-labels`, and Label Studio
STORE/features.npz    features of the pairs of training users for their choice (choose.py)
STORE/labels.sqlite   everything else; written last
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray import storage
from prefrec_ray.algorithms.feed.preferences import segment_rows
from prefrec_ray.algorithms.requests import reward_columns
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.annotation.ask import PAIRS, write_questions
from prefrec_ray.annotation.page.choose import FEATURES, MEMBERS, WIDTH, layers
from prefrec_ray.annotation.page.settings import DRAWN, LabelSettings
from prefrec_ray.annotation.page.store import FILE, PairRow, Store
from prefrec_ray.annotation.page.teacher import QUESTIONS
from prefrec_ray.annotation.pairs import draw_lists, draw_pairs, fill_segments, histories, pairs_of_users
from prefrec_ray.annotation.visits import comparable_first, count_visits
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement.levels import task_levels
from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes, first_rows
from prefrec_ray.preferences.teachers import ScriptedTeacher, Sessions
from prefrec_ray.runtime.progress import Progress

#: Segments whose features are computed at a time, which bounds the memory.
_AT_ONCE = 256
#: Pairs drawn for each chosen pair.
POOL = 4


def create_store(dataset: PreparedDataset, folder: str, settings: LabelSettings, progress: Progress) -> None:
    """Create the store `folder` in one step. Raises `UserError` for an existing one, and like `write_pairs`."""
    if "://" in folder:
        raise UserError(
            f"--store: found {folder}; expected a folder on a local disk, which guarantees that votes are written"
        )
    length = settings.length or int(dataset.metadata.settings["preferences"]["length"])
    with storage.staged(folder, FILE) as made:
        where = storage.join(made, QUESTIONS)
        pairs, lists = _questions(dataset, where, settings, length, progress)
        scores = _scores(dataset, pairs, progress)
        features = segment_features(dataset, pairs, settings.seed, progress)
        storage.write_arrays(
            storage.join(made, FEATURES), {"pair": pairs["pair_id"].to_numpy()[: len(features)], "features": features}
        )
        about = {
            "dataset": dataset.uri,
            "task": dataset.metadata.tasks[0],
            "signals": _signals(where, dataset.state.feedback),
            "lists": lists,
            "secret": secrets.token_hex(32),
            "settings": settings.model_dump(include=set(DRAWN)),
        }
        Store.create(made, about, _rows(where, pairs, scores, settings.gold))


def _questions(
    dataset: PreparedDataset, where: str, settings: LabelSettings, length: int, progress: Progress
) -> tuple[pa.Table, list[list[int]]]:
    """Write the questions; return them, and in mode `rank` the pairs of each list.

    It draws `POOL` times more pairs than needed, and keeps pairs with similar numbers of sessions first.
    """
    users = histories(dataset, progress)
    of_list = settings.segments * (settings.segments - 1) // 2 if settings.mode == "rank" else 1
    counts = {"validation": round(settings.pairs * settings.held_out / of_list)}
    counts["train"] = max(1, round(settings.pairs / of_list) - counts["validation"])
    parts = []
    for split in (name for name in ("train", "validation") if counts[name]):
        if settings.mode == "rank":
            parts.append(draw_lists(users[split], split, length, settings.segments, counts[split], settings.seed))
        else:
            pool = draw_pairs(users[split], split, settings.pairing, length, counts[split], settings.seed, POOL)
            order = comparable_first(count_visits(dataset, pool, progress))
            parts.append(pool.take(pa.array(np.sort(order[: counts[split]]))))
    pairs = pa.concat_tables(parts)
    storage.make_folder(where)
    write_questions(dataset, where, pairs, progress)
    ids = pairs["pair_id"].to_pylist() if settings.mode == "rank" else []
    return pairs, [ids[first : first + of_list] for first in range(0, len(ids), of_list)]


def _rows(where: str, pairs: pa.Table, scores: np.ndarray, share: float) -> Iterator[PairRow]:
    gold = _gold(pairs, scores, share)
    for number, pair in enumerate(_written(where)):
        outcome = {"scores": scores[number].tolist(), "gap_ms": [side[-1]["gap_ms"] for side in pair["segments"]]}
        segments = json.dumps(pair["segments"], ensure_ascii=False)
        yield pair["pair_id"], pair["split"], gold.get(number), segments, json.dumps(outcome)


def _written(where: str) -> Iterator[dict[str, Any]]:
    for line in storage.read_text(storage.join(where, PAIRS)).split("\n"):  # an id may contain other line ends
        if line:
            yield json.loads(line)


def _signals(where: str, names: Sequence[str]) -> list[str]:
    """Return the feedback columns with only 0 and 1, rarest first."""
    given = dict.fromkeys(names, 0)
    for pair in _written(where):
        for request in (r for side in pair["segments"] for session in side for r in session["requests"]):
            for name in list(given):
                value = request["feedback"][name]
                if value in (0.0, 1.0):
                    given[name] += int(value)
                else:
                    del given[name]
    return sorted(given, key=given.__getitem__)


def _gold(pairs: pa.Table, scores: np.ndarray, share: float) -> dict[int, str]:
    """Return the pairs of training users with the largest differences of scores, with the better side."""
    difference = np.where(pc.equal(pairs["split"], "train").to_numpy(), scores[:, 1] - scores[:, 0], 0.0)
    furthest = np.argsort(-np.abs(difference), kind="stable")[: round(share * len(pairs))]
    return {int(n): "second" if difference[n] > 0 else "first" for n in furthest if difference[n] != 0}


def _scores(dataset: PreparedDataset, pairs: pa.Table, progress: Progress) -> np.ndarray:
    """Return the scores of the scripted teacher `mean` on the data set's first task, float64 [P, 2]."""
    shared = ray.put(pairs)
    return fill_segments(
        np.zeros((len(pairs), 2)),
        lambda file: _scores_of.remote(dataset.uri, file, shared),
        dataset.files("sessions"),
        "score segments: files",
        progress,
    )


@ray.remote(num_cpus=1)
def _scores_of(uri: str, file: str, pairs: pa.Table) -> list[tuple[int, np.ndarray, np.ndarray]]:
    dataset = PreparedDataset.open(uri)
    about = dataset.metadata
    table = dataset.read(file, ["user_id", "depth", "level_depth", "level_frequency"])
    starts = first_rows(codes(table["user_id"]))
    depth, frequency = (table[name].to_numpy() for name in ("level_depth", "level_frequency"))
    level = task_levels(about.tasks[0], depth, frequency, about.mixture_weight)
    sessions = Sessions.from_depths(starts, table["depth"].to_numpy(), level)
    users = table["user_id"].combine_chunks().take(pa.array(starts))
    scores = []
    for side in (0, 1):
        pair, user = pairs_of_users(pairs, side, users)
        start = pairs[f"start_{side}"].to_numpy()[pair]
        scores.append((side, pair, ScriptedTeacher("mean").score(sessions, user, start, pairs["length"][0].as_py())))
    return scores


def segment_features(dataset: PreparedDataset, pairs: pa.Table, seed: int, progress: Progress) -> np.ndarray:
    """Return features of pairs of training users: second minus first, float32 [n, MEMBERS, WIDTH], unit variance.

    Pairs of training users come first. Inputs are the same as in the reward model of the recipe `robust`.
    """
    train = pairs.filter(pc.equal(pairs["split"], "train"))
    columns = reward_columns(TrainingSettings(), dataset)
    plain = {name: train[name].to_numpy(zero_copy_only=False) for name in train.column_names}
    shared = ray.put((plain, None if columns is None else list(columns), seed))
    means = fill_segments(
        np.zeros((len(train), 2, MEMBERS * WIDTH), np.float32),
        lambda file: _means_of.remote(dataset.uri, file, shared),
        dataset.files("requests", "train"),
        "describe segments: files",
        progress,
    )
    difference = means[:, 1] - means[:, 0]
    return (difference / np.maximum(difference.std(axis=0), 1e-6)).reshape(-1, MEMBERS, WIDTH)


@ray.remote(num_cpus=1)
def _means_of(uri: str, file: str, shared: Any) -> list[tuple[int, np.ndarray, np.ndarray]]:
    pairs, columns, seed = shared
    length = np.arange(int(pairs["length"][0]))
    rows = segment_rows(uri, file, pairs, columns)
    layer = layers(rows["inputs"].shape[1], seed)
    features = []
    for side, pair, first in rows["starts"]:
        chunks = np.array_split(first, len(first) // _AT_ONCE + 1)
        means = [np.tanh(rows["inputs"][part[:, None] + length] @ layer).mean(axis=1) for part in chunks]
        features.append((side, pair, np.concatenate(means)))
    return features
