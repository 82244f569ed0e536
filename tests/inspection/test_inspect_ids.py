"""Ids of unusual types: recognised or refused, and no other column is proposed instead."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.inspection.columns import csv_format, sample
from prefrec_ray.inspection.log import inspect_log
from prefrec_ray.inspection.roles import guess_roles

ROWS = 60
REST = {"click": np.arange(ROWS) % 2, "ts": 1_700_000_000 + 60 * np.arange(ROWS)}


def written(path: Path, **columns: object) -> str:
    table = pa.table({**columns, **REST})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        lines = [",".join(table.column_names), *(",".join(map(str, row.values())) for row in table.to_pylist())]
        path.write_text("\n".join(lines) + "\n")
    return str(path)


def roles(file: str) -> dict:
    return guess_roles(sample([file], csv_format(file)), file).source


@pytest.mark.parametrize("text", ["{}.0", "{}e3", "922337203685477580{}"])
def test_ids_in_csv_that_look_like_numbers_are_text(tmp_path: Path, text: str) -> None:
    ids = [text.format(k % 9) for k in range(ROWS)]
    guess = roles(written(tmp_path / "log.csv", user_id=ids, item_id=ids[::-1]))
    feedback = {"click": {"column": "click", "kind": "binary"}}
    assert (guess["user"], guess["item"], guess["feedback"]) == ("user_id", "item_id", feedback)


def test_a_number_of_a_user_is_no_id(tmp_path: Path) -> None:
    few = [k % 7 for k in range(ROWS)]
    guess = roles(written(tmp_path / "log.csv", who_id=few, item_id=few, user_age=[k / 2 for k in range(ROWS)]))
    assert guess["user"] == "who_id"
    assert "user_age" in guess["feedback"]


def test_decimals_without_a_fraction_are_ids(tmp_path: Path) -> None:
    ids = pa.array([Decimal(k % 10) for k in range(ROWS)], pa.decimal128(2, 0))
    file = written(tmp_path / "log.parquet", user_id=ids, item_id=[k % 7 for k in range(ROWS)])
    assert roles(file)["user"] == "user_id"


@pytest.mark.parametrize("name", ["user_id", "item_id"])
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([float(k % 5) for k in range(ROWS)]), "double"),
        (pa.array([b"ab"] * ROWS), "binary"),
        (pa.array([{"a": 1}] * ROWS), "struct<a: int64>"),
        (pa.nulls(ROWS), "null"),
    ],
)
def test_a_column_that_is_called_an_id_but_cannot_be_one(
    tmp_path: Path, name: str, values: pa.Array, kind: str
) -> None:
    ids = {"user_id": [k % 5 for k in range(ROWS)], "item_id": [k % 7 for k in range(ROWS)]}
    file = written(tmp_path / "log.parquet", **{**ids, name: values})
    with pytest.raises(UserError) as caught:
        inspect_log([file])
    assert f"no column looks like a{'n item' if name == 'item_id' else ' user'} (integers or text" in str(caught.value)
    assert f"{name} ({kind})" in str(caught.value) or kind.startswith("struct")


def test_an_empty_column_of_users_is_no_reason_to_take_another(tmp_path: Path) -> None:
    file = written(tmp_path / "log.parquet", user_id=pa.nulls(ROWS, pa.int64()), item_id=[k % 7 for k in range(ROWS)])
    with pytest.raises(UserError, match=r"no column looks like a user .* found user_id "):
        inspect_log([file])
    other = written(
        tmp_path / "b.parquet", user_id=pa.nulls(ROWS, pa.int64()), visitor_id=REST["click"], item_id=[7] * ROWS
    )
    assert roles(other)["user"] == "visitor_id"


def test_a_flag_that_is_called_like_an_item_is_no_id(tmp_path: Path) -> None:
    few = [k % 7 for k in range(ROWS)]
    file = written(tmp_path / "log.parquet", user_id=few, track_id=few, show=REST["click"] == 1)
    assert roles(file)["item"] == "track_id"
