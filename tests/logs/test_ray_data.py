"""Logs that Ray Data reads: the rows of Iceberg, Delta and Lance in order, and errors of one line."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.logs.contract import Side
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.readers.ray_data import _in_one_line, resolved
from prefrec_ray.logs.sources import JoinedSource, RayDataSource
from prefrec_ray.settings import parse

COLUMNS = {"kind": "ray_data", "user": "u", "item": "i", "time": "t", "time_unit": "s", "feedback": ["like"]}


def table(rows: int = 60) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "u": rng.integers(0, 9, rows),
            "i": [f"ítem {k}" for k in rng.integers(0, 5, rows)],
            "t": rng.integers(0, 10**9, rows),
            "like": rng.random(rows).astype(np.float32),
            "unused": ["x"] * rows,
        }
    )


def iceberg(data: pa.Table, folder: Path) -> dict[str, Any]:
    catalogs = pytest.importorskip("pyiceberg.catalog")
    at = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    catalog = catalogs.load_catalog("default", **at)
    catalog.create_namespace("platform")
    created = catalog.create_table("platform.requests", schema=data.schema)
    created.append(data.slice(0, 25))
    created.append(data.slice(25))
    return {"read": "read_iceberg", "args": {"table_identifier": "platform.requests", "catalog_kwargs": at}}


def delta(data: pa.Table, folder: Path) -> dict[str, Any]:
    pytest.importorskip("deltalake").write_deltalake(str(folder / "delta"), data)
    return {"read": "read_delta", "args": {"path": str(folder / "delta")}}


def lance(data: pa.Table, folder: Path) -> dict[str, Any]:
    pytest.importorskip("lance").write_dataset(data, str(folder / "requests.lance"))
    return {"read": "read_lance", "args": {"uri": str(folder / "requests.lance")}}


def parquet(data: pa.Table, folder: Path) -> dict[str, Any]:
    folder = folder / "parquet"
    folder.mkdir()
    for number in range(3):
        pq.write_table(data.slice(number * 20, 20), folder / f"part-{number}.parquet")
    return {"read": "read_parquet", "args": {"paths": str(folder)}}


def pandas(data: pa.Table, folder: Path) -> dict[str, Any]:
    return {"table": data.to_pandas()}


def arrow(data: pa.Table, folder: Path) -> dict[str, Any]:
    return {"table": data}


def opened(source: dict[str, Any], side: Side | None = None, **changes: object) -> Log:
    return parse(RayDataSource, {**COLUMNS, **source, **changes}, "source").open_log(seed=0, side=side)


@pytest.mark.parametrize("write", [iceberg, delta, lance, parquet, pandas, arrow])
def test_rows_are_those_of_the_table(
    ray_session: None, tmp_path: Path, write: Callable[[pa.Table, Path], dict[str, Any]]
) -> None:
    data = table()
    log = opened(write(data, tmp_path))
    rows = log.interactions().to_pandas().sort_values("order")
    frame = data.to_pandas()
    if write is iceberg:  # of the two parts of a table of Iceberg the later one may come first
        rows, frame = rows.sort_values("timestamp"), frame.sort_values("t")
    assert log.rows == len(frame) == len(set(rows.order))
    assert rows.user_id.tolist() == frame.u.tolist()
    assert rows.item_id.tolist() == frame.i.tolist()
    assert rows.timestamp.tolist() == (frame.t * 1000).tolist()
    np.testing.assert_array_equal(rows.like.to_numpy(np.float32), frame.like.to_numpy())
    assert "unused" not in rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read": "read_parket"}, "Ray Data has no 'read_parket'; did you mean 'read_parquet'?"),
        ({"args": {"paths": "/none/here"}}, "read_parquet: "),
        ({"args": {"path": "x"}}, "read_parquet: "),
        ({"item": "video"}, "read_parquet: column 'video' is missing; found u, i, t, like, unused"),
        ({"feedback": ["unused"]}, "read_parquet: column 'unused' is string; expected numbers"),
        ({"args": {"paths": {"env": "NO_SUCH_NAME"}}}, "the environment variable NO_SUCH_NAME is not set"),
    ],
)
def test_what_does_not_fit_is_one_line(
    ray_session: None, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        opened(parquet(table(), tmp_path), **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_row_is_known_by_its_number(ray_session: None, tmp_path: Path) -> None:
    data = table()
    bad = data.set_column(3, "like", pa.array([0.5] * 47 + [float("nan")] + [0.5] * 12, pa.float32()))
    log = opened(parquet(bad, tmp_path))
    with pytest.raises(Exception, match="column 'like'") as error:
        log.interactions().to_pandas()
    assert "read_parquet: column 'like', row 48: found NaN" in str(find_user_error(error.value))
    side = Side(str(tmp_path / "side"), keep_rows=True)
    source = {"read": "read_parquet", "args": {"paths": str(tmp_path / "parquet")}}
    assert opened(source, side).interactions().count() == 59
    (reason,) = side.reasons()
    assert (reason.row, reason.rows) == (48, 1)


def test_uuids_are_ids(ray_session: None, tmp_path: Path) -> None:
    """In Iceberg and warehouses they are 16 bytes."""
    ids = [uuid.UUID(int=number % 7 << 100) for number in range(60)]
    data = table().set_column(0, "u", pa.array([one.bytes for one in ids], pa.binary(16)))
    users = opened(parquet(data, tmp_path)).interactions().to_pandas().sort_values("order").user_id
    assert users.tolist() == [str(one) for one in ids]


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_DSN", "clickhouse://user:word@host")
    args = {"table": "requests", "dsn": {"env": "WAREHOUSE_DSN"}, "more": [{"env": "WAREHOUSE_DSN", "x": 1}]}
    assert resolved(args) == {**args, "dsn": "clickhouse://user:word@host"}


def test_what_went_wrong_is_told_and_not_how_to_try_again() -> None:
    advice = (
        "Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).\nTo change retry attempts, configure"
    )
    with pytest.raises(UserError, match=r"^read_sql: near \"frm\": syntax error$"), _in_one_line("read_sql"):
        raise ValueError(f'near "frm": syntax error\n{advice} `DataContext`.')


def test_tables_of_python_are_joined(ray_session: None) -> None:
    data = table()
    sources = [{**COLUMNS, "table": part} for part in (data.slice(0, 20), data.slice(20).to_pandas())]
    log = parse(JoinedSource, {"kind": "joined", "sources": sources}, "source").open_log(seed=0)
    rows = log.interactions().to_pandas()
    assert sorted(rows["timestamp"]) == sorted(1000 * np.asarray(data["t"]))


def test_a_table_of_python_stays_in_this_process_and_out_of_the_metadata() -> None:
    source = RayDataSource(**COLUMNS, table=table().to_pandas())
    settings = PrepareSettings(source=source)
    assert settings.source is source
    assert pickle.loads(pickle.dumps(source)).table is None
    assert "table" not in settings.model_dump(mode="json")["source"]
    assert len(source.table) == 60


@pytest.mark.parametrize("keys", [{}, {"table": "log.csv"}, {"read": "read_csv", "table": table()}])
def test_a_log_is_read_by_ray_data_or_a_table_of_python(keys: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^source: expected one of read and table \(of pandas or Arrow, in Python\)$"):
        parse(RayDataSource, {**COLUMNS, **keys}, "source")


def test_a_table_without_the_names_of_its_columns_is_refused() -> None:
    with pytest.raises(UserError, match=r"^prepare: key 'source': expected a mapping; .*'kind': 'ray_data', 'table'"):
        parse(PrepareSettings, {"source": table().to_pandas()}, "prepare")
