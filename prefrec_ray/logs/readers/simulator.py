"""Reader of log folders by `prefrec simulate`."""

from __future__ import annotations

import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.canonical import ColumnMap
from prefrec_ray.logs.contract import SideFiles
from prefrec_ray.logs.fragments import read
from prefrec_ray.logs.listing import list_inputs
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.readers.files import of_items
from prefrec_ray.logs.sources import ItemsTable, SimulatorSource
from prefrec_ray.logs.tables import item_table, user_table

SCHEMA_VERSION = 1


def open_simulator(source: SimulatorSource, side: SideFiles | None = None) -> Log:
    """Return the log in a folder. Bad rows go to `side`.

    Raises `UserError` for a missing log folder, and for another schema version.
    """
    folder = storage.absolute(source.path)
    about = storage.join(folder, "log.json")
    if not storage.exists(about):
        raise UserError(f"{source.path}: no log folder (log.json is missing); make one by `prefrec simulate`")
    log = storage.read_json(about)
    version = log.get("schema_version") if isinstance(log, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{about}: found schema version {version}; expected {SCHEMA_VERSION}")
    missing = [key for key in ("feedback", "reward", "user_features", "world") if key not in log]
    if missing:
        of_server = " (kind: events reads the folder of a server)" if "log_id" in log else ""
        raise UserError(f"{about}: key '{missing[0]}' is missing; expected a log of `prefrec simulate`{of_server}")
    columns = ColumnMap(
        user="user_id",
        item="item_id",
        time="timestamp",
        feedback={name: name for name in log["feedback"]},
        reward=log["reward"],
        # Logs of earlier versions have no propensities.
        propensity="propensity" if log.get("propensity") else None,
    )
    files = list_inputs(storage.join(folder, "interactions"))
    interactions, rows = read(files, columns.columns, columns, side)
    features = {name: tuple(categories) for name, categories in log["user_features"].items()}
    # Logs of earlier versions have embeddings and no list of features.
    item_features = log.get("item_features", [])
    embedding = {"features": item_features} if item_features else {"embedding": "embedding"}
    items = item_table(ItemsTable(path=storage.join(folder, "items.parquet"), **embedding), pa.int64())
    return Log(
        interactions=interactions,
        rows=rows,
        feedback=tuple(log["feedback"]),
        users=user_table(storage.join(folder, "users.parquet"), "user_id", list(features), pa.int64()),
        categories=features,
        **of_items(items),
        files=tuple(files),
        has_reward=log["reward"] is not None,
        has_propensity=columns.propensity is not None,
        world=log["world"],
    )
