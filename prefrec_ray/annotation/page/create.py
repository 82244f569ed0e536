"""Creation of a store, and its votes as preferences of the data set.

STORE/pairs/          the questions, as `prefrec pairs` writes them: for `prefrec import-labels`
STORE/labels.sqlite   everything else; written last
"""

from __future__ import annotations

import json
import posixpath
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.annotation.labels import WORDS, import_votes, vote_table
from prefrec_ray.annotation.page.desk import DRAWN, LabelSettings
from prefrec_ray.annotation.page.store import FILE, Store, labels_of
from prefrec_ray.annotation.questions import (
    Segment,
    draw_pairs,
    histories,
    pairs_of_users,
    read_pairs,
    write_questions,
)
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.preferences import Sessions, mean_level
from prefrec_ray.runtime.progress import Progress

#: The folder of a store with its questions, as `prefrec pairs` writes them.
QUESTIONS = "pairs"
#: Pairs drawn for each chosen pair, and the most sessions of one segment for each session of the other.
POOL, RATIO = 4, 2
AGGREGATE = "one-coin"


def create_store(dataset: PreparedDataset, folder: str, settings: LabelSettings, progress: Progress) -> None:
    """Create the store `folder` in one step. Raises `UserError` for an existing one, and like `write_pairs`.

    It draws `POOL` times more pairs than needed, and prefers pairs that annotators can compare: with numbers of
    sessions within a factor of `RATIO`.
    """
    if "://" in folder:
        raise UserError(
            f"--store: found {folder}; expected a folder on a local disk, which guarantees that votes are written"
        )
    length = settings.length or int(dataset.metadata.settings["preferences"]["length"])
    held_out = round(settings.pairs * settings.held_out)
    counts = {"train": max(1, settings.pairs - held_out), "validation": held_out}
    with storage.staged(folder, FILE) as made:
        storage.make_private(made)  # it contains histories of users
        users = histories(dataset)
        parts, differences = [], []
        for split, count in counts.items():
            if count:
                pool = draw_pairs(users[split], split, settings.pairing, length, count, settings.seed, POOL)
                visits, scores = np.moveaxis(visits_and_scores(dataset, pool), 2, 0)
                chosen = np.sort(comparable_first(visits)[:count])
                parts.append(pool.take(pa.array(chosen)))
                differences.append((scores[:, 1] - scores[:, 0])[chosen])
        pairs = pa.concat_tables(parts)
        gold = gold_labels(differences[0], round(settings.gold * len(pairs)))
        where = storage.join(made, QUESTIONS)
        storage.make_folder(where)
        segments = write_questions(dataset, where, pairs, progress).tolist()
        about = {
            "dataset": dataset.uri,
            "signals": signals((json.loads(text) for texts in segments for text in texts), dataset.state.feedback),
            "secret": secrets.token_hex(32),
            "settings": settings.model_dump(include=set(DRAWN)),
        }
        rows = [
            (row["pair_id"], row["split"], gold.get(number), f"[{first}, {second}]")
            for number, (row, (first, second)) in enumerate(zip(pairs.to_pylist(), segments, strict=True))
        ]
        Store.create(made, about, rows)


def comparable_first(visits: np.ndarray) -> np.ndarray:
    """Return an order of pairs with numbers `visits` [P, 2]: pairs within a factor of `RATIO` come first."""
    return np.argsort(visits.max(axis=1) > RATIO * visits.min(axis=1), kind="stable")


def gold_labels(difference: np.ndarray, count: int) -> dict[int, str]:
    """Return the better side of the `count` pairs with the largest differences of scores [P], by number of the pair."""
    furthest = np.argsort(-np.abs(difference), kind="stable")[:count]
    return {int(n): "second" if difference[n] > 0 else "first" for n in furthest if difference[n] != 0}


def signals(segments: Iterable[Segment], names: Sequence[str]) -> list[str]:
    """Return the feedback columns with only 0 and 1, rarest first."""
    given = dict.fromkeys(names, 0)
    for request in (request for segment in segments for session in segment for request in session["requests"]):
        for name in list(given):
            value = request["feedback"][name]
            if value in (0.0, 1.0):
                given[name] += int(value)
            else:
                del given[name]
    return sorted(given, key=given.__getitem__)


def visits_and_scores(dataset: PreparedDataset, pairs: pa.Table) -> np.ndarray:
    """Return the number of sessions of both segments and the score of the teacher `mean`, float64 [P, 2, 2].

    Scores are on the data set's first task.
    """
    about, found = dataset.metadata, np.zeros((len(pairs), 2, 2))
    for file in dataset.files("sessions"):
        table = dataset.read(file, ["user_id", "depth", "level_depth", "level_frequency"])
        sessions, depth = Sessions.from_table(table, about.tasks[0], about.mixture_weight), table["depth"].to_numpy()
        users = table["user_id"].combine_chunks().take(pa.array(sessions.starts))
        for side in (0, 1):
            pair, user = pairs_of_users(pairs, side, users)
            start, length = (pairs[name].to_numpy()[pair] for name in (f"start_{side}", "length"))
            found[pair, side, 0] = visits(depth, sessions.starts[user], start, length)
            found[pair, side, 1] = mean_level(sessions, user, start, pairs["length"][0].as_py())
    return found


def visits(depth: np.ndarray, row: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the number of sessions with impressions start to start + length - 1 of a user, int64 [n].

    depth [sessions]: impressions per session, user by user; row [n]: the first session of each user.
    """
    ends = np.cumsum(depth)
    before = (ends - depth)[row] + start
    first, last = (np.searchsorted(ends, place, side="right") for place in (before, before + length - 1))
    return np.asarray(last - first + 1)


def with_votes(config: dict[str, Any], dataset: str) -> dict[str, Any]:
    """Import the votes of stores among the `teachers` of training settings into the data set at the URI `dataset`.

    Returns the settings with the names of the imported votes instead of the stores. A name consists of the name of the
    folder and a digest of the votes, so that the settings of a run identify its votes; votes that are already imported
    are not imported again. Raises `UserError`: a store without votes, or of another data set.
    """
    stores = {one for one in map(str, config.get("teachers", ())) if storage.exists(storage.join(one, FILE))}
    if not stores:
        return config
    named = {one: _imported(one, dataset) for one in stores}
    return {**config, "teachers": [named.get(str(one), str(one)) for one in config["teachers"]]}


def _imported(folder: str, dataset: str) -> str:
    with closing(Store(folder)) as store:
        labels = labels_of(store.votes())
    rows = [{"pair_id": pair, "annotator": who, "label": WORDS[label]} for pair, who, label in labels]
    votes = vote_table(rows, folder)
    digest = blake2b(json.dumps(votes.to_pylist()).encode(), digest_size=4).hexdigest()
    base = re.sub(r"[^A-Za-z0-9_-]", "-", posixpath.basename(storage.absolute(folder).rstrip("/"))).lstrip("_-")
    name = f"{base or 'people'}-{digest}"
    prepared = PreparedDataset.open(dataset)
    if name not in prepared.people():
        pairs = storage.join(folder, QUESTIONS)
        with suppress(FileExistsError):  # another run was quicker, with the same votes
            import_votes(votes, folder, read_pairs(pairs), pairs, prepared, name, AGGREGATE, replace=False)
    return name
