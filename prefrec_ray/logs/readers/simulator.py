"""Reader of log folders by `prefrec simulate`."""

from __future__ import annotations

from dataclasses import replace

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import Side
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.readers import files
from prefrec_ray.logs.side_tables import ItemsTable, UsersTable
from prefrec_ray.logs.sources import FilesSource, SimulatorSource

SCHEMA_VERSION = 1


def open_log(source: SimulatorSource, seed: int = 0, side: Side | None = None) -> Log:
    """Return the log in a folder. Raises `UserError` for a missing log folder, and for another schema version."""
    folder = storage.absolute(source.path)
    about = storage.join(folder, "log.json")
    if not storage.exists(about):
        raise UserError(f"{source.path}: no log folder (log.json is missing); make one by `prefrec simulate`")
    log = storage.read_versioned(about, SCHEMA_VERSION, " (kind: events reads the folder of a server)")
    missing = [key for key in ("feedback", "reward", "user_features", "item_features", "world") if key not in log]
    if missing:
        raise UserError(f"{about}: key '{missing[0]}' is missing; expected a log of `prefrec simulate`")
    features = {name: tuple(categories) for name, categories in log["user_features"].items()}
    content = {"features": log["item_features"]} if log["item_features"] else {"embedding": "embedding"}
    pages = log["world"].get("page", 1) > 1
    columns = FilesSource(
        kind="files",
        path=storage.join(folder, "interactions"),
        user="user_id",
        item="item_id",
        time="timestamp",
        time_unit="ms",
        feedback=log["feedback"],
        reward=log["reward"],
        propensity="propensity",
        users=UsersTable(path=storage.join(folder, "users.parquet"), features=list(features)) if features else None,
        items=ItemsTable(path=storage.join(folder, "items.parquet"), **content),
        duplicates="keep",
        page="page" if pages else None,
        position="position" if pages else None,
        examined="examined" if pages and source.examined else None,
    )
    return replace(files.open_log(columns, seed, side), feedback_kinds={}, categories=features, world=log["world"])
