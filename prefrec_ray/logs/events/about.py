"""What a log of events is of: the file log.json of its folder."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import schema
from prefrec_ray.settings import Settings, parse

FILE = "log.json"
SCHEMA_VERSION: Literal[1] = 1


class About(Settings):
    """Ids, feedback in the order of the rows' lists, its kinds, the categories of users' features, session timeout."""

    schema_version: Literal[1] = SCHEMA_VERSION
    log_id: Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
    item_ids: Literal["int64", "string"]
    feedback: tuple[str, ...]
    feedback_kinds: dict[str, str]
    user_features: dict[str, tuple[str, ...]]
    session_gap_ms: Annotated[int, Field(ge=1)]

    @property
    def columns(self) -> pa.Schema:
        """The columns of the rows."""
        return schema(pa.int64() if self.item_ids == "int64" else pa.string())

    def check_same(self, other: About, where: str) -> None:
        """Raises `UserError`, which `where` opens, where `other` is not of such events."""
        for key in type(self).model_fields:
            mine, found = getattr(self, key), getattr(other, key)
            if key != "log_id" and mine != found:
                raise UserError(f"{where}: {key}: found {_plain(found)}; expected {_plain(mine)}")


def read_about(folder: str) -> About:
    """Of the log in `folder`. Raises `UserError` for a folder that no server wrote, and another schema version."""
    file = storage.join(folder, FILE)
    if not storage.exists(file):
        raise UserError(f"{folder}: no folder of events ({FILE} is missing); expected that of `prefrec serve --state`")
    value = storage.read_json(file)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{file}: schema version {version}; expected {SCHEMA_VERSION}")
    return parse(About, value, file)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
