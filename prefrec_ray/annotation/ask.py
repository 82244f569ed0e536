"""The folder of questions for annotators: pairs with their histories, also as tasks for Label Studio.

FOLDER/pairs.jsonl        one pair per line: pair_id, split, user_0, start_0, user_1, start_1, length, segments
FOLDER/label_studio.json  its tasks, to import
FOLDER/label_studio.xml   its labelling config; written last
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.annotation import label_studio
from prefrec_ray.annotation.context import describe
from prefrec_ray.annotation.pairs import IDENTITY, SPLITS, draw_pairs, histories, pair_id
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.runtime.progress import Progress

STRATEGIES = ("uniform", "disagreement")
#: Pairs drawn for every pair that is chosen by disagreement.
POOL = 10

PAIRS, TASKS, CONFIG = "pairs.jsonl", "label_studio.json", "label_studio.xml"


def write_pairs(
    dataset: PreparedDataset,
    output: str,
    count: int,
    held_out: float,
    pairing: str,
    length: int,
    strategy: str,
    rewards: Sequence[str],
    seed: int,
    progress: Progress,
) -> pa.Table:
    """Write FOLDER `output` with `count` pairs, a share `held_out` of them from validation users. Returns the pairs.

    Pairs of training users are drawn uniformly. With `disagreement`, `POOL` times more pairs are drawn, and the pairs
    with the largest disagreement of the models `rewards` (runs or checkpoints) are kept, in this order. Held-out pairs
    are always drawn uniformly, so that accuracy on them is unbiased. Raises `UserError`: too few users or pairs, fewer
    than two rewards.
    """
    if strategy == "disagreement" and (found := len(set(rewards))) < 2:  # a repeated model agrees with itself
        raise UserError(f"--strategy disagreement: found {found} --reward, expected at least 2 (of other seeds)")
    with storage.staged(output, CONFIG) as folder:
        users = histories(dataset, progress)
        kept_out = min(round(count * held_out), count - 1)  # at least one pair for training
        if strategy == "uniform":
            parts = [draw_pairs(users["train"], "train", pairing, length, count - kept_out, seed)]
        else:
            from prefrec_ray.annotation.disagreement import disagreement
            from prefrec_ray.runs.export import load_reward

            pool = draw_pairs(users["train"], "train", pairing, length, POOL * (count - kept_out), seed)
            sizes = (dataset.state.width, dataset.state.action_dim)
            unsure = disagreement(dataset, pool, [load_reward(uri, sizes) for uri in rewards], progress)
            parts = [pool.take(pa.array(np.argsort(-unsure, kind="stable")[: count - kept_out]))]
        if kept_out:
            parts.append(draw_pairs(users["validation"], "validation", pairing, length, kept_out, seed))
        pairs = pa.concat_tables(parts)
        write_questions(dataset, folder, pairs, progress)
    return pairs


def write_questions(dataset: PreparedDataset, folder: str, pairs: pa.Table, progress: Progress) -> None:
    """Write the files of these pairs into an existing folder."""
    _write(folder, pairs, describe(dataset, pairs, progress))


def _write(folder: str, pairs: pa.Table, described: list) -> None:
    rows = pairs.to_pylist()
    with _stream(storage.join(folder, PAIRS)) as stream:
        for row, ((first, _), (second, _)) in zip(rows, described, strict=True):
            head = json.dumps(row, ensure_ascii=False).removesuffix("}")
            stream.write(f'{head}, "segments": [{first}, {second}]}}\n'.encode())
    with _stream(storage.join(folder, TASKS)) as stream:
        for number, (row, ((_, first), (_, second))) in enumerate(zip(rows, described, strict=True)):
            task = json.dumps(label_studio.task(row, first, second), ensure_ascii=False)
            stream.write(f"{',' if number else '['}\n{task}".encode())
        stream.write(b"\n]\n")
    storage.write_text(storage.join(folder, CONFIG), label_studio.CONFIG)


def _stream(uri: str) -> pa.NativeFile:
    system, path = storage.filesystem(uri)
    return system.open_output_stream(path)


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
