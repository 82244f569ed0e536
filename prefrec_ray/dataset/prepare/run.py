"""`prepare`: from a log to a data set of states, transitions and preferences, on Ray.

The log is partitioned by users once, as narrow rows; after that each stage is one task per bucket of users. The driver
holds one row per user and one per item, never the interactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray import runtime, storage
from prefrec_ray.dataset import SCHEMA_VERSION, Metadata, PreparedDataset
from prefrec_ray.dataset.prepare.items import items_of_log, learn_items, list_items
from prefrec_ray.dataset.prepare.preferences import write_preferences
from prefrec_ray.dataset.prepare.rows import RowRules
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.dataset.prepare.states import Context, feedback_network_of, fit_normaliser, repeats_of, write_states
from prefrec_ray.dataset.prepare.users import LogUsers, split_by_user
from prefrec_ray.errors import UserError, unwrapped_errors
from prefrec_ray.logs.contract import Side
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.schemas import check_tables
from prefrec_ray.logs.side_tables import ItemsTable, UsersTable
from prefrec_ray.logs.sources import ColumnsSource, parts_of
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import kinds_of
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.runtime.progress import Progress, silent, step
from prefrec_ray.settings import SPLITS

__all__ = ["OnError", "PrepareSettings", "prepare"]

OnError = Literal["fail", "drop"]

#: Raw states of one bucket; a task holds a few copies.
_BUCKET_BYTES = 64 << 20
#: A small log is cut into buckets for a few cores, with at least this number of rows per bucket. The number of buckets
#: affects the bytes of the data set, so it does not depend on the machine.
_CORES, _ROWS_OF_CORE = 4, 10_000
#: Settings taken from the data set in `like`: splits, sessions, levels and actions depend on them.
_INHERITED = ("seed", "session_gap_minutes", "train_fraction", "validation_fraction", "mixture_weight", "action_dim")


def prepare(
    settings: PrepareSettings, output: str, progress: Progress = silent, on_error: OnError = "fail"
) -> PreparedDataset:
    """Write the data set `output` (docs/formats.md) and open it. The bytes do not depend on the number of workers.

    Rows that break the contract (docs/data.md) are counted and end the command; with `on_error` "drop" they go to
    `output`/dropped. Raises `UserError` for an unusable log, and if `output` exists; nothing is left behind.
    """
    for part in parts_of(settings.source):
        if isinstance(part, ColumnsSource):
            check_tables(part)  # before Ray starts
    with unwrapped_errors(), storage.staged(storage.absolute(output), "metadata.json") as folder:
        storage.make_private(folder)  # it contains ids of users
        with step(progress, "start Ray"):
            runtime.start_ray()
        _write_dataset(settings, folder, progress, Side(folder, keep_rows=on_error == "drop"))
    return PreparedDataset.open(output)


def _write_dataset(settings: PrepareSettings, folder: str, progress: Progress, side: Side) -> None:
    settings, like = _open_like(settings)
    log = settings.source.open_log(settings.seed, side)
    side.check()
    pages = log.has_pages
    if like:
        _check_like(log, like)
        pages = like.state.pages
        items: ItemTable | None = like.items()
        definition = like.state
    else:
        items = items_of_log(log, settings.action_dim if "action_dim" in settings.model_fields_set else None)
        definition = define_state(log, settings, items)
    row_rules = RowRules.from_log(log, side, items if like else None, pages)
    partitions = count_buckets(settings, log.rows, definition.width)
    users = split_by_user(log, settings, row_rules, partitions, folder, progress)
    _check_splits(users)
    source = settings.source
    without_row: dict[str, int] = {}
    if isinstance(source, ColumnsSource) and source.users and log.users is not None:
        without_row["users"] = _check_ids(source.users, log.users["user_id"], users.ids, "users", source.user)
    if settings.draws_preferences:
        # Preferences need only sessions, and fail before the long stages if a log is too small.
        write_preferences(users, settings.preferences, settings.mixture_weight, settings.seed, folder, progress)
    buckets = np.unique(users.bucket).tolist()
    if like is None:
        if items is None:
            consumed = list_items(buckets, folder, progress)
            items = learn_items(log, consumed, settings.action_dim, buckets, folder, progress)
            if isinstance(source, ColumnsSource) and source.items and log.about is not None:
                without_row["items"] = _check_ids(
                    source.items, log.about["item_id"], pa.array(items.ids), "items", source.item
                )
        with step(progress, "find kinds of items"):
            items = items.with_kinds(kinds_of(items.ids, items.embeddings, log.content))
    assert items is not None
    items.save(storage.join(folder, "items.parquet"))

    context = Context(folder, definition, items, log.users, log.has_reward, settings.state_type)
    normaliser = like.normaliser if like else fit_normaliser(context, buckets, progress)
    answers_ref = None if like else feedback_network_of.remote(context, normaliser, buckets, settings.seed)
    repeats_ref = None if like else repeats_of.remote(context, buckets)
    write_states(context, normaliser, users, settings.seed, progress)
    storage.write_json(storage.join(folder, "dropped.json"), drop_report(users, side, without_row))
    with step(progress, "fit expected feedback"):
        answers = like.answers() if like else ray.get(answers_ref)
    answers_sizes = answers.save(storage.join(folder, "answers.npz")) if answers else None
    # With `like`: a log that a server wrote has the rest of its policy, which must not grow from log to log.
    repeats = like.metadata.repeats if like else ray.get(repeats_ref)
    storage.remove(storage.join(folder, "work"))
    metadata = Metadata(
        schema_version=SCHEMA_VERSION,
        counts=users.counts(),
        state_dim=definition.width,
        action_dim=definition.action_dim,
        action_low=-1.0,
        action_high=1.0,
        state=definition,
        normaliser=normaliser.to_dict(),
        # Positions of excluded rows depend on rows of users who may be removed from the log later.
        settings=settings.model_dump(mode="json", exclude={"source": {"without"}}),
        seed=settings.seed,
        tasks=list(settings.preferences.tasks) if settings.draws_preferences else [],
        teachers=[teacher.name for teacher in settings.preferences.teachers] if settings.draws_preferences else [],
        mixture_weight=settings.mixture_weight,
        has_reward=log.has_reward,
        has_propensity=log.has_propensity,
        given_sessions=log.given_sessions,
        world=log.world,
        dropped={reason: count for reason, count in users.dropped.items() if count},
        answers=answers_sizes,
        repeats=repeats,
    )
    storage.write_json(storage.join(folder, "metadata.json"), metadata.model_dump(mode="json"))


def define_state(log: Log, settings: PrepareSettings, items: ItemTable | None) -> StateDefinition:
    """Return the columns of the state vectors of a log; `items`: the embeddings of the log, if it has them."""
    return StateDefinition(
        feedback=log.feedback,
        user_features=categories_of(log),
        action_dim=items.embeddings.shape[1] if items else settings.action_dim,
        session_gap_ms=settings.session_gap_ms,
        feedback_kinds=log.feedback_kinds,
        pages=log.has_pages,
    )


def count_buckets(settings: PrepareSettings, rows: int, width: int) -> int:
    """Return the number of buckets of users for a log with states of `width` numbers."""
    least = max(1, min(_CORES, rows // _ROWS_OF_CORE))
    return settings.partitions or max(least, -(-rows * width * 4 // _BUCKET_BYTES))


def _open_like(settings: PrepareSettings) -> tuple[PrepareSettings, PreparedDataset | None]:
    """Return the settings, completed from the data set `settings.like`, and this data set. Raises `UserError`."""
    if settings.like is None:
        return settings, None
    like = PreparedDataset.open(storage.absolute(settings.like))
    inherited = {name: like.metadata.settings[name] for name in _INHERITED}
    for name, value in inherited.items():
        own = getattr(settings, name)
        if name in settings.model_fields_set and own != value:
            raise UserError(f"prepare.{name}: found {own}; expected {value} as in {settings.like} (like), or omit it")
    return settings.model_copy(update=inherited), like


def _check_like(log: Log, like: PreparedDataset) -> None:
    """Raise `UserError` if the state vectors of `log` cannot match the state vectors of `like`."""
    if log.feedback != like.state.feedback:
        expected, present = (", ".join(names) or "none" for names in (like.state.feedback, log.feedback))
        raise UserError(f"feedback of the log: found {present}; expected {expected} as in {like.uri}")
    for name in log.feedback:
        kind, expected = (kinds.get(name, "number") for kinds in (log.feedback_kinds, like.state.feedback_kinds))
        if kind != expected:
            raise UserError(f"feedback '{name}' of the log is of kind {kind}; expected {expected}, as in {like.uri}")
    if log.given_sessions != like.metadata.given_sessions:
        raise UserError(f"sessions of the log and of {like.uri}: found session ids in only one; expected both or none")
    if like.state.pages and not log.has_pages:
        raise UserError(f"pages of the log: found none; expected pages, as in {like.uri}")
    features = log.users.column_names if log.users else []
    for name in like.state.user_features:
        if name not in features:
            raise UserError(f"user features of the log: '{name}' is missing; expected it for the states of {like.uri}")


def drop_report(users: LogUsers, side: Side, without_row: Mapping[str, int]) -> dict[str, Any]:
    """Return the counts of kept rows, of rows that break the contract (by reason), and of omitted rows.

    `without_row`: numbers of users and items without a row in their table.
    """
    bad = side.reasons()
    return {
        "kept": {"rows": int(users.requests.sum()), "users": len(users.ids), "sessions": int(users.sessions.sum())},
        "bad_rows": sum(reason.rows for reason in bad),
        "reasons": [asdict(reason) for reason in bad],
        "left_out": {reason: count for reason, count in users.dropped.items() if count},
        "without_row": {what: count for what, count in without_row.items() if count},
    }


def categories_of(log: Log) -> Mapping[str, tuple[str, ...]]:
    """Return the categories of each user feature: listed in the log, or all values that occur, sorted."""
    columns = {} if log.users is None else dict(zip(log.users.column_names, log.users.columns, strict=True))
    others = [name for name in columns if name not in ("user_id", *log.categories)]
    found = {name: tuple(sorted(pc.unique(columns[name].drop_null()).to_pylist())) for name in others}
    return {**log.categories, **found}


def _check_ids(table: UsersTable | ItemsTable, known: pa.ChunkedArray, ids: pa.Array, what: str, column: str) -> int:
    """Return how many of the log's `ids` are not in `table`, which has the ids `known`. Raises `UserError` if all."""
    missing = len(ids) - pc.sum(pc.is_in(ids, known.combine_chunks())).as_py()
    if missing == len(ids):
        raise UserError(
            f"{table.path}: column '{table.id}': found none of the log's {len(ids)} {what}; "
            f"expected ids as in the log's column '{column}'"
        )
    return int(missing)


def _check_splits(users: LogUsers) -> None:
    for code, name in enumerate(SPLITS[:2]):
        if not (users.split == code).any():
            raise UserError(f"none of the {len(users.ids)} users falls into the split '{name}'; expected more users")
