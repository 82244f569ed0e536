"""Description of an event log: the file log.json of its folder."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import schema
from prefrec_ray.settings import Settings, parse
from prefrec_ray.storage import seal

FILE = "log.json"
#: Version of the files that this module writes. Servers of version 1 would cut them off.
SCHEMA_VERSION: Literal[2] = 2


class About(Settings):
    """Ids, feedback in the order of the rows' lists, its kinds, the categories of user features, session timeout."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    log_id: Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
    item_ids: Literal["int64", "string"]
    feedback: tuple[str, ...]
    feedback_kinds: dict[str, str]
    user_features: dict[str, tuple[str, ...]]
    session_gap_ms: Annotated[int, Field(ge=1)]

    @property
    def columns(self) -> pa.Schema:
        """Return the columns of the rows."""
        return schema(pa.int64() if self.item_ids == "int64" else pa.string())

    def check_same(self, other: About, where: str) -> None:
        """Raise `UserError`, which begins with `where`, if `other` describes other events."""
        for key in type(self).model_fields:
            mine, found = getattr(self, key), getattr(other, key)
            if key not in ("schema_version", "log_id") and mine != found:
                raise UserError(f"{where}: {key}: found {_plain(found)}; expected {_plain(mine)}")


def read_about(folder: str) -> About:
    """Return the description of the log in `folder`.

    Raises `UserError` for a folder that no server wrote, another schema version, and a damaged file.
    """
    file = storage.join(folder, FILE)
    if not storage.exists(file):
        raise UserError(
            f"{folder}: no folder of events ({FILE} is missing); expected the folder of `prefrec serve --state`"
        )
    content = storage.read_bytes(file)
    intact = seal.intact(content)
    value = storage.read_json(file)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version not in (1, SCHEMA_VERSION):
        raise UserError(f"{file}: found schema version {version}; expected {SCHEMA_VERSION}")
    if intact is False or (intact is None and version == SCHEMA_VERSION):
        raise UserError(f"{file}: damaged: its checksum differs; expected the file as it was written")
    value.pop("seal", None)
    return parse(About, value, file)


def write_about(folder: str, about: About) -> None:
    """Write the description of the log in `folder`; it is on the disk when this returns."""
    value = about.model_dump(mode="json") | {"schema_version": SCHEMA_VERSION, "seal": seal.BLANK}
    storage.write_bytes(storage.join(folder, FILE), seal.fill((json.dumps(value, indent=2) + "\n").encode()))
    storage.sync(folder)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
