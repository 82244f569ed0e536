"""Conversion of small tables with the columns u (user), i (item) and t (time)."""

from functools import partial
from typing import Any

import pyarrow as pa

from prefrec_ray.logs.log import to_canonical
from prefrec_ray.logs.sources import FilesSource


def converter(id_types: dict[str, pa.DataType] | None = None, **keys: Any) -> partial[pa.Table]:
    """Return the conversion for these keys of a source; ids are int64 unless `id_types` has another type."""
    source = FilesSource(**{"kind": "files", "path": "x", "user": "u", "item": "i", "time": "t"} | keys)
    types = dict.fromkeys(source.id_columns, pa.int64()) | (id_types or {})
    return partial(to_canonical, source=source, id_types=types)
