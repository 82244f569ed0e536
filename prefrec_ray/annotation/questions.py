"""Questions for annotators: random pairs of segments, and the file that describes them.

FOLDER/pairs.jsonl  one pair per line: pair_id, split, user_0, start_0, user_1, start_1, length, segments
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import groupby
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.preferences import DRAWS
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import PAIRINGS, Settings, parse

PAIRS = "pairs.jsonl"
#: Columns that identify a pair; with `pair_id` and `split` the columns of a table of pairs.
IDENTITY = ("user_0", "start_0", "user_1", "start_1", "length")
#: The splits with users in questions.
SPLITS = ("train", "validation")
#: Draws per pair. Repeated pairs count once, so that more pairs are drawn than needed.
_DRAWS = 2
#: The sessions of a segment: session, start (ISO 8601, UTC), depth (including impressions outside of the segment),
#: gap_ms (to the user's next session, or None), and requests: item and feedback of each impression.
Segment = list[dict[str, Any]]


_User = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | Annotated[str, Field(strict=True)]
_Place = Annotated[int, Field(strict=True, ge=0, le=10**9)]


class _Identity(Settings):
    """Values of `IDENTITY` in a file."""

    user_0: _User
    start_0: _Place
    user_1: _User
    start_1: _Place
    length: Annotated[_Place, Field(ge=1)]


@dataclass(frozen=True, eq=False)
class SplitUsers:
    """Ids of the users of one split, and their numbers of impressions."""

    ids: pa.Array  # int64 or string [U], ascending
    requests: np.ndarray  # int64 [U]

    def has(self, user: pa.Array, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return whether each segment lies inside its user's history with an impression after it, bool [n]."""
        place = pc.index_in(user.cast(self.ids.type), self.ids).fill_null(len(self.ids))
        requests = np.append(self.requests, 0)[place.to_numpy(zero_copy_only=False)]  # an unknown user has none
        return (start >= 0) & (start + length < requests)


def histories(dataset: PreparedDataset) -> dict[str, SplitUsers]:
    """Return the users of each split of `SPLITS`, from the sessions."""
    parts = []
    for file in dataset.files("sessions"):
        table = dataset.read(file, columns=["user_id", "depth", "split"])
        parts.append(table.group_by(["user_id", "split"]).aggregate([("depth", "sum")]))
    table = pa.concat_tables(parts).sort_by("user_id")
    by_split = {}
    for split in SPLITS:
        users = table.filter(pc.equal(table["split"], split))
        by_split[split] = SplitUsers(users["user_id"].combine_chunks(), users["depth_sum"].to_numpy())
    return by_split


def draw_pairs(
    users: SplitUsers, split: str, pairing: str, length: int, count: int, seed: int, pool: int = 1
) -> pa.Table:
    """Return different pairs of segments of `length` impressions (pair_id, split, `IDENTITY`).

    There are at least `count` and at most `pool * count` pairs, of users with more than twice `length` impressions.
    Raises `UserError` if there are fewer than two such users, or fewer than `count` pairs.
    """
    eligible = np.flatnonzero(users.requests > 2 * length)
    if len(eligible) < 2:
        raise UserError(
            f"pairs: {len(eligible)} of {len(users.requests)} {split} users have more than {2 * length} impressions; "
            "expected at least 2: take a smaller length"
        )
    rng = np.random.default_rng((seed, Stream.QUESTIONS, SPLITS.index(split), PAIRINGS.index(pairing)))
    drawn = DRAWS[pairing](rng, users.requests[eligible], length, _DRAWS * count * pool)
    user, start = eligible[drawn.user], drawn.start
    _, first = np.unique(np.concatenate([user, start], axis=1), axis=0, return_index=True)
    if len(first) < count:
        raise UserError(
            f"pairs: found {len(first)} different {split} pairs, expected {count}: ask for fewer, or shorter ones"
        )
    rows = np.sort(first)[: count * pool]
    columns: dict[str, Any] = {}
    for side in (0, 1):
        columns[f"user_{side}"] = users.ids.take(pa.array(user[rows, side]))
        columns[f"start_{side}"] = pa.array(start[rows, side])
    columns["length"] = pa.array(np.full(len(rows), length))
    return pa.table({"pair_id": pair_ids(pa.table(columns)), "split": pa.array([split] * len(rows)), **columns})


def pairs_of_users(pairs: pa.Table, side: int, users: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the pairs whose user on `side` is in `users`, and their rows in `users`, int64 [n] each."""
    place = pc.index_in(pairs[f"user_{side}"].combine_chunks(), users)
    pair = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
    return pair, place.drop_null().to_numpy().astype(np.int64)


def pair_ids(pairs: pa.Table) -> pa.Array:
    """Return the `pair_id` of each pair, int64."""
    return pa.array([pair_id(row) for row in pairs.to_pylist()], pa.int64())


def pair_id(pair: Mapping[str, Any]) -> int:
    """Return the id of a pair, a hash of its `IDENTITY`: the same pair has the same id everywhere.

    It has 48 bits, because spreadsheets and JavaScript round longer numbers.
    """
    text = json.dumps([pair[name] for name in IDENTITY], ensure_ascii=False)
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=6).digest(), "big")


def write_pairs(
    dataset: PreparedDataset,
    output: str,
    count: int,
    held_out: float,
    pairing: str,
    length: int,
    seed: int,
    progress: Progress,
) -> pa.Table:
    """Write the folder `output` with `count` random pairs, a share `held_out` of them from validation users.

    Returns the pairs. Raises `UserError` for too few users or pairs.
    """
    with storage.staged(output, PAIRS) as folder:
        users = histories(dataset)
        kept_out = min(round(count * held_out), count - 1)  # at least one pair for training
        counts = {"train": count - kept_out, "validation": kept_out}
        drawn = [draw_pairs(users[split], split, pairing, length, n, seed) for split, n in counts.items() if n]
        pairs = pa.concat_tables(drawn)
        write_questions(dataset, folder, pairs, progress)
    return pairs


def write_questions(dataset: PreparedDataset, folder: str, pairs: pa.Table, progress: Progress) -> np.ndarray:
    """Write the file of `pairs` into an existing folder. Return their segments (`Segment`) as JSON texts, [P, 2].

    Raises `UserError` if the data set has no feedback of impressions.
    """
    segments, shared = np.empty((len(pairs), 2), object), ray.put(pairs)
    files = [file for split in SPLITS for file in dataset.files("requests", split)]
    parts = run_tasks(
        lambda file: _describe_file.remote(dataset.uri, file, shared), files, "describe segments: files", progress
    )
    for part in parts:
        for side, pair, texts in part:
            segments[pair, side] = texts
    lines = []
    for row, (first, second) in zip(pairs.to_pylist(), segments, strict=True):
        head = json.dumps(row, ensure_ascii=False).removesuffix("}")
        lines.append(f'{head}, "segments": [{first}, {second}]}}\n')
    storage.write_text(storage.join(folder, PAIRS), "".join(lines))
    return segments


def read_pairs(folder: str) -> pa.Table:
    """Return the pairs in a folder made by `write_pairs` (pair_id, split, `IDENTITY`), without their segments.

    Raises `UserError` for another folder, and for a changed file.
    """
    file = storage.join(folder, PAIRS)
    rows = []
    for number, line in enumerate(filter(None, storage.read_text(file).split("\n")), 1):
        try:
            row = json.loads(line)
            identity = parse(_Identity, {name: row[name] for name in IDENTITY}, "pair")
            rows.append({"pair_id": pair_id(row), "split": row["split"], **identity.model_dump()})
            if row["pair_id"] != pair_id(row) or row["split"] not in SPLITS:
                raise ValueError("pair_id or split does not match the pair")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{file}: line {number}: expected a pair written by `prefrec pairs` ({error!r})") from error
    if not rows:
        raise UserError(f"{file}: no pairs")
    if len({type(row[side]) for row in rows for side in ("user_0", "user_1")}) > 1:
        raise UserError(f"{file}: found numbers and texts as ids of users; expected one type")
    return pa.Table.from_pylist(rows)


@ray.remote(num_cpus=1)
def _describe_file(uri: str, file: str, pairs: pa.Table) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return side, numbers of pairs and texts of the segments whose users are in the file."""
    dataset = PreparedDataset.open(uri)
    names = dataset.state.feedback
    table = dataset.read(file, ["user_id", "session_index", "step", "item_id", *(["feedback"] if names else [])])
    if names and "feedback" not in table.column_names:
        raise UserError(
            f"{file}: column 'feedback' is missing; prepare the data set again to show feedback to annotators"
        )
    pages = Pages.from_table(table)
    borders = np.append(pages.first, len(table))
    users = table["user_id"].combine_chunks().take(pa.array(pages.first[pages.of_user]))
    places = {side: pairs_of_users(pairs, side, users) for side in (0, 1)}
    shown = users.take(pa.array(np.unique(np.concatenate([user for _, user in places.values()]))))
    sessions = _sessions(dataset, dataset.path("sessions", file.rsplit("/", 1)[-1]), shown)
    described = []
    for side, (pair, user) in places.items():
        segments = np.empty(len(pair), object)
        start, length = (pairs[name].to_numpy()[pair] for name in (f"start_{side}", "length"))
        begin = pages.of_user[user] + start
        rows = zip(borders[begin].tolist(), borders[begin + length].tolist(), strict=True)
        for number, (row, end) in enumerate(rows):
            segment = _segment(table.slice(row, end - row), names, sessions)
            segments[number] = json.dumps(segment, ensure_ascii=False)
        described.append((side, pair, segments))
    return described


def _sessions(dataset: PreparedDataset, file: str, users: pa.Array) -> dict[tuple[Any, int], dict[str, Any]]:
    """Return start, depth and gap of the sessions of `users` by (user, session)."""
    table = dataset.read(file, ["user_id", "session_index", "start", "depth", "revisit_ms"])
    return {
        (row["user_id"], row["session_index"]): {
            "session": row["session_index"],
            "start": datetime.fromtimestamp(row["start"] / 1000, UTC).isoformat(timespec="milliseconds"),
            "depth": row["depth"],
            "gap_ms": row["revisit_ms"],
        }
        for row in table.filter(pc.is_in(table["user_id"], users)).to_pylist()
    }


def _segment(table: pa.Table, names: tuple[str, ...], sessions: dict[tuple[Any, int], dict[str, Any]]) -> Segment:
    feedback = tensor(table["feedback"]) if names else np.empty((len(table), 0), np.float32)
    rows = table.select(["user_id", "session_index", "item_id"]).to_pylist()
    segment = []
    impressions = zip(rows, feedback, strict=True)
    for session, group in groupby(impressions, key=lambda pair: (pair[0]["user_id"], pair[0]["session_index"])):
        requests = [
            # str() of a float32 is its shortest decimal.
            {"item": row["item_id"], "feedback": {n: float(str(v)) for n, v in zip(names, values, strict=True)}}
            for row, values in group
        ]
        segment.append({**sessions[session], "requests": requests})
    return segment
