"""Reader of Ray Data sources: tables of Iceberg, Delta and Lance, databases, warehouses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockAccessor

from prefrec_ray.errors import UserError, nearest
from prefrec_ray.logs.contract import Convert, Place, Side, clean, part_of
from prefrec_ray.logs.fragments import empty_log
from prefrec_ray.logs.log import Log, to_canonical
from prefrec_ray.logs.readers.files import log_of, types_of_ids
from prefrec_ray.logs.sources import RayDataSource
from prefrec_ray.logs.values import plain, plain_schema

#: Text that Ray Data appends to the message of an error.
_ADVICE = "\nFailed to apply UDF transform"


def open_log(source: RayDataSource, seed: int = 0, side: Side | None = None) -> Log:
    """Read the columns in `source` into the object store. A row is identified by its number in the order of reading.

    Raises `UserError` if Ray Data has no such function or it fails, and for a missing or wrong column.
    """
    with _in_one_line(source.name):
        dataset = _opened(source)
        schema = dataset.schema()
    if schema is None:
        raise empty_log([source.name])
    read = plain_schema(pa.schema(list(zip(schema.names, schema.types, strict=True))))
    types = types_of_ids(source, [(source.name, read, False)])
    with _in_one_line(source.name):
        # Rows of equal times are in the order of the log.
        dataset.context.execution_options.preserve_order = True
        bundles = dataset.select_columns(source.columns).materialize().iter_internal_ref_bundles()
        blocks = [(block.ref, block.metadata.num_rows) for bundle in bundles for block in bundle.blocks]
    starts = [sum(rows for _, rows in blocks[:number]) for number in range(len(blocks))]
    rows = sum(rows for _, rows in blocks)
    if not rows:
        raise empty_log([source.name])
    fragments = [{"block": number, "first": first} for number, first in enumerate(starts)]
    interactions = ray.data.from_items(fragments, override_num_blocks=len(fragments)).map_batches(
        _read_blocks,
        batch_size=None,
        batch_format="pyarrow",
        # Wrapped in a list, because each task would resolve a bare reference.
        fn_kwargs={
            "blocks": [ref for ref, _ in blocks],
            "convert": partial(to_canonical, source=source, id_types=types),
            "side": side,
            "name": source.name,
        },
    )
    read_rows = {"interactions": lambda: interactions, "rows": rows}
    return log_of(source, read_rows, [source.name], types, side)


def resolved(value: Any) -> Any:
    """Replace {env: NAME} in `value` by the environment variable NAME. Raises `UserError` if it is not set."""
    if isinstance(value, dict):
        if set(value) == {"env"}:
            name = str(value["env"])
            if name not in os.environ:
                raise UserError(f"source.args: the environment variable {name} is not set")
            return os.environ[name]
        return {key: resolved(part) for key, part in value.items()}
    return [resolved(part) for part in value] if isinstance(value, list) else value


def _opened(source: RayDataSource) -> ray.data.Dataset:
    if source.read is not None:
        return _reader(source.read)(**resolved(source.args))
    table = source.table
    if isinstance(table, ray.data.Dataset):
        return table
    # Blocks of pandas have types that the schema of a log does not.
    return ray.data.from_arrow(
        table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False)
    )


def _reader(name: str) -> Any:
    known = [known for known in dir(ray.data) if known.startswith("read_") and callable(getattr(ray.data, known))]
    if name not in known:
        raise UserError(f"source.read: Ray Data has no '{name}'; {nearest(name, known)}")
    return getattr(ray.data, name)


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    """Turn the errors of a connector, which may have any type, into their last line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = getattr(error, "cause", None) or error  # of an error in a task
        lines = str(cause).partition(_ADVICE)[0].strip().splitlines() or [type(cause).__name__]
        raise UserError(f"{name}: {lines[-1][:300]}") from error


def _read_blocks(
    fragments: pa.Table, blocks: list[ray.ObjectRef], convert: Convert, side: Side | None, name: str
) -> Iterator[pa.Table]:
    for fragment in fragments.to_pylist():
        table = plain(BlockAccessor.for_block(ray.get(blocks[fragment["block"]])).to_arrow())
        place = Place(name, 0, fragment["first"])
        with part_of(side, f"00000-{fragment['block'] + 1:05d}") as part:
            yield clean(table, place, convert, part)
