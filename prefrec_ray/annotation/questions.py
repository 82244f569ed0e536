"""The folder of questions for annotators: pairs with their histories, also as tasks for Label Studio.

FOLDER/pairs.jsonl        one pair per line: pair_id, split, user_0, start_0, user_1, start_1, length, segments
FOLDER/label_studio.json  its tasks, to import
FOLDER/label_studio.xml   its labelling config; written last
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray import storage
from prefrec_ray.annotation import label_studio
from prefrec_ray.annotation.pairs import IDENTITY, SPLITS, draw_pairs, fill_segments, histories, pair_id, pairs_of_users
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.ids import codes, first_rows
from prefrec_ray.runtime.progress import Progress

PAIRS, TASKS, CONFIG = "pairs.jsonl", "label_studio.json", "label_studio.xml"

#: The sessions of a segment: session, start (ISO 8601, UTC), depth (including impressions outside of the segment),
#: gap_ms (to the user's next session, or None), and requests: item and feedback of each impression.
Segment = list[dict[str, Any]]


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
    """Write FOLDER `output` with `count` random pairs, a share `held_out` of them from validation users.

    Returns the pairs. Raises `UserError`: too few users or pairs.
    """
    with storage.staged(output, CONFIG) as folder:
        users = histories(dataset, progress)
        kept_out = min(round(count * held_out), count - 1)  # at least one pair for training
        counts = {"train": count - kept_out, "validation": kept_out}
        drawn = [draw_pairs(users[split], split, pairing, length, n, seed) for split, n in counts.items() if n]
        pairs = pa.concat_tables(drawn)
        write_questions(dataset, folder, pairs, progress)
    return pairs


def write_questions(dataset: PreparedDataset, folder: str, pairs: pa.Table, progress: Progress) -> np.ndarray:
    """Write the files of these pairs into an existing folder. Returns their segments as JSON texts, [P, 2]."""
    segments = describe(dataset, pairs, progress)
    rows = pairs.to_pylist()
    lines, tasks = [], []
    for row, (first, second) in zip(rows, segments, strict=True):
        head = json.dumps(row, ensure_ascii=False).removesuffix("}")
        lines.append(f'{head}, "segments": [{first}, {second}]}}\n')
        tasks.append(json.dumps(label_studio.task(row, json.loads(first), json.loads(second)), ensure_ascii=False))
    storage.write_text(storage.join(folder, PAIRS), "".join(lines))
    storage.write_text(storage.join(folder, TASKS), "[\n" + ",\n".join(tasks) + "\n]\n")
    storage.write_text(storage.join(folder, CONFIG), label_studio.CONFIG)
    return segments


def read_pairs(folder: str) -> pa.Table:
    """Return the pairs of a folder of `write_pairs` (pair_id, split, `IDENTITY`), without the segments' contents.

    Raises `UserError` for another folder, and for a changed file.
    """
    file = storage.join(folder, PAIRS)
    rows = []
    for number, line in enumerate(filter(None, storage.read_text(file).split("\n")), 1):
        try:
            row = json.loads(line)
            rows.append({name: row[name] for name in ("pair_id", "split", *IDENTITY)})
            if row["pair_id"] != pair_id(row) or row["split"] not in SPLITS:
                raise ValueError("pair_id or split does not match the pair")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{file}: line {number}: expected a pair written by `prefrec pairs` ({error!r})") from error
    if not rows:
        raise UserError(f"{file}: no pairs")
    return pa.Table.from_pylist(rows)


def describe(dataset: PreparedDataset, pairs: pa.Table, progress: Progress) -> np.ndarray:
    """Return both segments (`Segment`) of every pair as JSON texts, [P, 2]; one task per file.

    Raises `UserError` for a data set with impressions without feedback.
    """
    shared = ray.put(pairs)
    return fill_segments(
        np.empty((len(pairs), 2), object),
        lambda file: _describe_file.remote(dataset.uri, file, shared),
        [file for split in SPLITS for file in dataset.files("requests", split)],
        "describe segments: files",
        progress,
    )


@ray.remote(num_cpus=1)
def _describe_file(uri: str, file: str, pairs: pa.Table) -> list[tuple[int, np.ndarray, np.ndarray]]:
    dataset = PreparedDataset.open(uri)
    names = dataset.state.feedback
    table = dataset.read(file, ["user_id", "session_index", "item_id", *(["feedback"] if names else [])])
    if names and "feedback" not in table.column_names:
        raise UserError(
            f"{file}: column 'feedback' is missing; prepare the data set again to show feedback to annotators"
        )
    first = first_rows(codes(table["user_id"]))
    users = table["user_id"].combine_chunks().take(pa.array(first))
    places = {side: pairs_of_users(pairs, side, users) for side in (0, 1)}
    shown = users.take(pa.array(np.unique(np.concatenate([user for _, user in places.values()]))))
    sessions = _sessions(dataset, dataset.path("sessions", file.rsplit("/", 1)[-1]), shown)
    described = []
    for side, (pair, user) in places.items():
        segments = np.empty(len(pair), object)
        start, length = (pairs[name].to_numpy()[pair] for name in (f"start_{side}", "length"))
        for number, (row, rows) in enumerate(zip((first[user] + start).tolist(), length.tolist(), strict=True)):
            segment = _segment(table.slice(row, rows), names, sessions)
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
            # The shortest decimal that is this float32.
            {"item": row["item_id"], "feedback": {n: float(str(v)) for n, v in zip(names, values, strict=True)}}
            for row, values in group
        ]
        segment.append({**sessions[session], "requests": requests})
    return segment
