"""KuaiRand (Gao et al., CIKM 2022): logs of a short-video platform, in its versions Pure, 1K and 27K."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.ids import mix
from prefrec_ray.logs.contract import Place, Side
from prefrec_ray.logs.fragments import batches, read_files
from prefrec_ray.logs.log import Content, Log, LoggedSource
from prefrec_ray.logs.schemas import check_present, schema
from prefrec_ray.logs.side_tables import UsersTable
from prefrec_ray.logs.sources import KuaiRandSource
from prefrec_ray.logs.tables import user_table
from prefrec_ray.logs.values import check_range, to_integers, to_milliseconds, to_text

_FLAGS = ("is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "is_profile_enter")
FEEDBACK = (*_FLAGS, "play_ratio")
#: All 19 columns; duplicate rows are equal in each column.
COLUMNS = (
    *("user_id", "video_id", "date", "hourmin", "time_ms", *_FLAGS, "play_time_ms", "duration_ms"),
    *("profile_stay_time", "comment_stay_time", "is_rand", "tab"),
)
#: KuaiRand counts 18 s as a long view if the length of a video is unknown.
_UNKNOWN_DURATION_MS = 18_000
_UNKNOWN = pa.array(["-124", "UNKNOWN"])
_NAME = re.compile(r"(log_standard|log_random|user_features|video_features_basic)(?:_.*)?_(pure|1k|27k)[._].*")


def open_log(source: KuaiRandSource, seed: int = 0, side: Side | None = None) -> Log:
    """Return the log of one version of KuaiRand. Raises `UserError` for missing files or several versions."""
    files = find_files(source)
    kinds = {"exclude": ["log_standard"], "only": ["log_random"], "include": ["log_random", "log_standard"]}
    logs = [file for kind in kinds[source.random] for file in files[kind]]
    for file in logs:
        check_present(file, COLUMNS, schema(file).names)
    tabs = None if source.tabs == "all" else source.tabs
    canonical = partial(_canonical, tabs=tabs, random=source.random, page=source.page)
    return Log(
        **read_files(logs, list(COLUMNS), canonical, side),
        feedback=FEEDBACK,
        users=_users(files["user_features"][0], source.user_features),
        sources=(LoggedSource(tuple(logs), all_examined=False),),
        content=partial(_video_content, tuple(files["video_features_basic"])),
        has_pages=source.page is not None,
    )


def find_files(source: KuaiRandSource) -> dict[str, list[str]]:
    """Return the files of one version by kind, each list sorted by name (and so by date and part)."""
    folder = storage.absolute(source.path)
    if not storage.exists(folder):
        raise UserError(f"{source.path}: no such file or folder")
    versions: dict[str, dict[str, list[str]]] = {}
    for file in [*storage.list_files(storage.join(folder, "data")), *storage.list_files(folder)]:
        name = _NAME.fullmatch(file.rsplit("/", 1)[-1])
        if name and file.endswith((".csv", ".csv.gz")):
            versions.setdefault(name[2], {}).setdefault(name[1], []).append(file)
    if source.version is None and len(versions) > 1:
        raise UserError(f"{source.path}: found {', '.join(sorted(versions))}; expected one of them as the key version")
    version: str = source.version or next(iter(versions), "*")
    files = versions.get(version, {})
    needed = {"log_standard": source.random != "only", "log_random": source.random != "exclude"}
    for kind in ("log_standard", "log_random", "user_features", "video_features_basic"):
        if needed.get(kind, True) and kind not in files:
            raise UserError(f"{source.path}: no {kind}_*{version}*.csv; expected KuaiRand as it is unpacked")
    return files


def _canonical(
    table: pa.Table, place: Place, tabs: tuple[int, ...] | None, random: str, page: str | None = None
) -> pa.Table:
    """Return rows as canonical interactions, without other tabs and without the other kind of exposure."""
    columns = {name: to_integers(table[name], place, name) for name in COLUMNS}
    for name in (*_FLAGS, "is_rand"):
        check_range(columns[name], 0, 1, place, name, "0 or 1")
    for name in ("play_time_ms", "duration_ms"):
        check_range(columns[name], 0, np.inf, place, name, "at least 0")
    to_milliseconds(table["time_ms"], "ms", place, "time_ms")
    kept = np.ones(table.num_rows, dtype=bool) if tabs is None else np.isin(columns["tab"], tabs)
    if random != "include":
        kept &= columns["is_rand"] == (random == "only")
    rows = {name: values[kept] for name, values in columns.items()}
    feedback = {name: rows[name] for name in _FLAGS} | {"play_ratio": play_ratio(rows)}
    return pa.table(
        {
            "user_id": rows["user_id"],
            "item_id": rows["video_id"],
            "timestamp": rows["time_ms"],
            "order": place.order(table.num_rows)[kept],
            **({"page": rows["time_ms"]} if page else {}),
            "dwell_ms": rows["play_time_ms"].astype(np.float64),
            "row_hash": row_hash(rows),
            **{name: values.astype(np.float32) for name, values in feedback.items()},
        }
    )


def play_ratio(rows: dict[str, np.ndarray]) -> np.ndarray:
    """Return the played share of the video, at most 1; the share of 18 s if its length is unknown (0)."""
    duration = rows["duration_ms"]
    return np.minimum(rows["play_time_ms"] / np.where(duration > 0, duration, _UNKNOWN_DURATION_MS), 1.0)


def row_hash(rows: dict[str, np.ndarray]) -> np.ndarray:
    """Return a hash of all columns, int64 [n]."""
    total = np.zeros(len(rows["user_id"]), dtype=np.uint64)
    for number, name in enumerate(COLUMNS):
        total = mix(total ^ mix(rows[name], number))
    return total.view(np.int64)


def _users(file: str, features: tuple[str, ...]) -> pa.Table | None:
    """Return features as text; null for -124, UNKNOWN and empty cells. Integers lose their '.0'."""
    if not features:
        return None
    table = user_table(UsersTable(path=file, features=list(features)), pa.int64())
    columns = {"user_id": table["user_id"]}
    for name in features:
        text = pc.replace_substring_regex(table[name], r"\.0$", "")
        columns[name] = pc.if_else(pc.is_in(text, _UNKNOWN), pa.scalar(None, pa.string()), text)
    return pa.table(columns)


def _video_content(files: tuple[str, ...], ids: np.ndarray) -> Content:
    """Return the content of videos `ids` (int64, ascending): their tags and authors.

    KuaiRand's statistics of videos are not read: they are averages over the month of the log and contain the future.
    """
    maker = np.full(len(ids), -1, dtype=np.int64)
    rows, tags = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, file in enumerate(files):
        for table, place in batches(Place(file, number), ["video_id", "author_id", "tag"]):
            video = to_integers(table["video_id"], place, "video_id")
            author = to_integers(table["author_id"], place, "author_id")
            item = np.searchsorted(ids, video).clip(max=len(ids) - 1)
            known = ids[item] == video
            maker[item[known]] = author[known]
            texts = pc.fill_null(to_text(table["tag"], place, "tag").filter(pa.array(known)), "")
            parts = pc.split_pattern(texts, ",").combine_chunks()
            flat = pc.utf8_trim_whitespace(parts.flatten())
            named = pc.not_equal(flat, "")
            owner = np.flatnonzero(known)[pc.list_parent_indices(parts).to_numpy()][named.to_numpy(False)]
            places = replace(place, rows=place.row_numbers(len(table))[owner])
            rows.append(item[owner])
            tags.append(to_integers(pa.chunked_array([flat.filter(named)]), places, "tag"))
    return Content.from_pairs(np.concatenate(rows), np.concatenate(tags), maker, "author_id")
