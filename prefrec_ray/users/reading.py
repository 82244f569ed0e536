"""Reads the histories of users from a prepared data set, with the items that they did not examine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.dataset import PreparedDataset, floats, tensor
from prefrec_ray.engagement import session_table, user_means
from prefrec_ray.errors import UserError
from prefrec_ray.ids import changes, codes, first_rows
from prefrec_ray.mdp.exposure import exposures
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.storage.parquet import read_footer
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.whole_pages import WholePages, unexamined_items

#: Approximate number of impressions in memory: 200 MB for states of 250 numbers.
ROWS = 200_000
_COLUMNS = ["user_id", "session_index", "step", "timestamp", "item_id", "state", "action"]


def too_short(dataset: PreparedDataset, splits: Sequence[str]) -> str | None:
    """Return the reason why a model of users cannot be fitted on these splits, in a few words; None if it can."""
    for split in splits:
        counts = dataset.metadata.counts.get(split, {})
        if not counts.get("requests"):
            return f"no impressions in the split '{split}'"
        if counts["sessions"] <= counts["users"]:
            return f"no user in the split '{split}' has two sessions"
    return None


def check_long_enough(dataset: PreparedDataset, splits: Sequence[str]) -> None:
    """Raise `UserError` if histories are `too_short`."""
    short = too_short(dataset, splits)
    if short is not None:
        raise UserError(f"{dataset.uri}: {short}; expected longer histories, or estimators without 'model'")


@ray.remote(num_cpus=1)
def read_histories(uri: str, split: str, seed: int, rows: int = ROWS) -> Histories:
    """Run `histories_of` in a task."""
    return histories_of(PreparedDataset.open(uri), split, seed, rows)


def histories_of(dataset: PreparedDataset, split: str, seed: int, rows: int = ROWS) -> Histories:
    """Read all users of a split, or a random sample with about `rows` impressions.

    Raises `UserError` if the split has no impressions, or if impressions and sessions do not match.
    """
    share = rows / max(1, dataset.metadata.counts.get(split, {}).get("requests", 0))
    files = dataset.files("requests", split)
    parts = [_read(dataset, file, split, share, seed + number) for number, file in enumerate(files)]
    if not any(len(requests) for requests, _ in parts):
        raise UserError(f"{dataset.uri}: no impressions in the split '{split}'")
    requests, sessions = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
    others = [table for file in files if (table := unexamined_items(dataset, file, split)) is not None]
    items = dataset.items()
    session_starts(requests, sessions, dataset.uri)
    of_row, user = codes(requests["user_id"]), codes(sessions["user_id"])
    timestamp, session = requests["timestamp"].to_numpy(), requests["session_index"].to_numpy()
    # Without dwell times, like the sessions of roll-outs.
    starts, visits = first_rows(of_row), session_table(of_row, timestamp, session)
    row = items.rows(requests["item_id"].to_numpy(zero_copy_only=False))
    nothing = np.empty((len(requests), 0), np.float32)
    propensity = floats(requests["propensity"]) if dataset.metadata.has_propensity else np.full(len(requests), np.nan)
    pins = requests["pinned"].to_numpy() if "pinned" in requests.column_names else np.zeros(len(requests), bool)
    step, feedback = requests["step"].to_numpy(), tensor(requests["feedback"]) if dataset.state.feedback else nothing
    histories = Histories(
        starts=starts,
        timestamp=timestamp,
        session=session,
        row=row,
        state=tensor(requests["state"]),
        action=tensor(requests["action"]),
        feedback=feedback,
        exposure=exposures(starts, row, items.kinds),
        mean_depth=user_means(user, floats(sessions["depth"]), len(starts)),
        mean_revisit_ms=user_means(visits.user, visits.revisit_ms, len(starts)),
        propensity=np.where(pins, 1.0, propensity),
        depth_level=floats(sessions["level_depth"]),
        frequency_level=floats(sessions["level_frequency"]),
        step=step,
        pins=pins if pins.any() else None,
    )
    if not others:
        return histories
    return with_unexamined(histories, WholePages.from_tables(requests, pa.concat_tables(others), items), items)


def with_unexamined(data: Histories, pages: WholePages, items: ItemTable) -> Histories:
    """Return the histories with all items of their pages. Exposures are those to examined and unexamined items."""
    others, spread = pages.others, pages.spread
    row = spread(data.row, items.rows(others["item_id"].to_numpy(zero_copy_only=False)))
    starts = first_rows(data.user[pages.of])
    pinned = "pinned" in others.column_names
    pins = others["pinned"].to_numpy() if pinned else np.zeros(len(others), bool)
    chance = floats(others["propensity"]) if "propensity" in others.column_names else np.full(len(others), np.nan)
    own_pins = spread(np.zeros(len(data.row), bool) if data.pins is None else data.pins, pins)
    assert data.step is not None
    return replace(
        data,
        starts=starts,
        timestamp=spread(data.timestamp),
        session=spread(data.session),
        row=row,
        state=spread(data.state),
        action=items.embeddings[row],
        feedback=spread(data.feedback, 0.0),
        exposure=exposures(starts, row, items.kinds),
        propensity=spread(data.propensity, np.where(pins, 1.0, chance)),
        step=spread(data.step),
        pins=own_pins if own_pins.any() else None,
        examined=pages.examined,
    )


def read_sessions(dataset: PreparedDataset, file: str, split: str) -> pa.Table:
    """Return the sessions of one split for a `file` of impressions, by user and in time order."""
    path = dataset.path("sessions", file.rsplit("/", 1)[-1])
    columns = ["user_id", "session_index", "depth", "revisit_ms", "level_depth", "level_frequency", "split"]
    table = dataset.read(path, columns=columns)
    table = table.filter(pc.equal(table["split"], split))
    return table.sort_by([("user_id", "ascending"), ("session_index", "ascending")])


def session_starts(requests: pa.Table, sessions: pa.Table, where: str) -> np.ndarray:
    """Return the first impression of each session, int64 [M]; both tables are by user and in time order.

    Raises `UserError`, prefixed by `where`, if impressions and sessions do not match.
    """
    user, theirs = (codes(table["user_id"]) for table in (requests, sessions))
    opens = changes(user) | changes(requests["session_index"].to_numpy())
    first = np.flatnonzero(opens)
    depth = np.bincount(np.cumsum(opens) - 1, opens | changes(requests["step"].to_numpy()), len(first))
    if not (
        pc.unique(requests["user_id"]).equals(pc.unique(sessions["user_id"]))
        and np.array_equal(user[first], theirs)
        and np.array_equal(depth, sessions["depth"].to_numpy())
    ):
        raise UserError(
            f"{where}: found other sessions than in the data set's table of sessions; prepare the data again"
        )
    return first


def in_page_order(requests: pa.Table) -> pa.Table:
    """Return impressions with each page by position, if known, because propensities are given the items before."""
    if "position" not in requests.column_names:
        return requests
    page = np.cumsum(changes(codes(requests["user_id"])) | changes(requests["step"].to_numpy()))
    position = requests["position"].fill_null(np.iinfo(np.int32).max).to_numpy()
    return requests.take(pa.array(np.lexsort((position, page))))


def _read(dataset: PreparedDataset, file: str, split: str, share: float, seed: int) -> tuple[pa.Table, pa.Table]:
    """Return the impressions and the sessions of the users drawn from one file."""
    optional = {"feedback": bool(dataset.state.feedback), "propensity": dataset.metadata.has_propensity}
    columns = read_footer(file).schema.names
    optional |= {"position": dataset.state.pages and "position" in columns, "pinned": "pinned" in columns}
    requests = in_page_order(dataset.read(file, [*_COLUMNS, *(name for name, there in optional.items() if there)]))
    sessions = read_sessions(dataset, file, split)
    if share < 1:
        users = pc.unique(sessions["user_id"])
        drawn = users.filter(pa.array(np.random.default_rng(seed).random(len(users)) < share))
        requests, sessions = (table.filter(pc.is_in(table["user_id"], drawn)) for table in (requests, sessions))
    return requests, sessions
