"""Bad rows: found in one pass, each set aside once with its place, and the rest read as if they had never been."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversion import converter
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs import schemas
from prefrec_ray.logs.contract import BadRows, Place, Side, clean
from prefrec_ray.logs.fragments import _estimate_rows, _read_fragments
from prefrec_ray.logs.schemas import PLAIN, CsvFormat
from prefrec_ray.logs.values import to_milliseconds

COLUMNS = converter(time_unit="s", feedback={"like": {"column": "like", "kind": "binary"}})
GOOD = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 9**9), st.sampled_from(["0", "1", "true"]))
#: Rows that break the contract, and the column with the error.
BAD = st.sampled_from(
    [
        (("", "1", "5", "0"), "u"),
        (("x", "1", "5", "0"), "u"),
        (("1", "", "5", "7"), "i"),
        (("1", "2", "soon", "0"), "t"),
        (("1", "2", "-5", ""), "t"),
        (("1", "2", "5", ""), "like"),
        (("1", "2", "5", "7"), "like"),
        (("1", "2", "5"), ""),
        (("1", "2", "5", "0", "more"), ""),
    ]
)


def read(side: Side | None, *files: Path, form: CsvFormat = PLAIN) -> pa.Table:
    """Read like Ray Data, but in this process."""
    groups = [range(pq.read_metadata(file).num_row_groups) if file.suffix == ".parquet" else [-1] for file in files]
    fragments = [
        {"file": str(file), "number": number, "group": group, "first": 7 * max(group, 0)}
        for number, file in enumerate(files)
        for group in groups[number]
    ]
    columns = COLUMNS.keywords["source"].columns
    return pa.concat_tables(_read_fragments(pa.Table.from_pylist(fragments), columns, COLUMNS, side, form))


def side_files(folder: Path, keep_rows: bool = True) -> Side:
    return Side(str(folder), keep_rows)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.one_of(GOOD.map(lambda row: (tuple(map(str, row)), None)), BAD), max_size=60))
def test_csv_with_bad_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[tuple[str, ...], Any]]) -> None:
    folder = tmp_path_factory.mktemp("csv")
    rows = [*rows, (("0", "0", "1", "0"), None)]
    lines = [",".join(values) for values, _ in rows]
    (folder / "a.csv").write_text("u,i,t,like\n" + "".join(line + "\n" for line in lines))
    good = [line for line, (_, column) in zip(lines, rows, strict=True) if column is None]
    (folder / "good.csv").write_text("u,i,t,like\n" + "".join(line + "\n" for line in good))
    side = side_files(folder)
    table, expected = read(side, folder / "a.csv"), read(None, folder / "good.csv")
    assert table.drop_columns("order").equals(expected.drop_columns("order"))
    assert table["order"].to_pylist() == [k for k, (_, column) in enumerate(rows) if column is None]

    bad = [(k + 1, column) for k, (_, column) in enumerate(rows) if column is not None]
    files = storage.list_files(f"{folder}/dropped")
    written = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert sorted((row["row"], row["column"]) for row in written) == bad
    assert {row["file"] for row in written} <= {str(folder / "a.csv")}
    for row in written:
        raw = json.loads(row["raw"])
        values = dict(zip(("u", "i", "t", "like"), (value or None for value in rows[row["row"] - 1][0]), strict=False))
        assert raw == (values if row["column"] else lines[row["row"] - 1])
        assert row["value"] == (values[row["column"]] if row["column"] else lines[row["row"] - 1])
    assert sum(reason.rows for reason in side.reasons()) == len(bad)
    side.check()  # they are dropped: no error
    strict = Side(str(folder), keep_rows=False)
    if not bad:
        strict.check()
        return
    with pytest.raises(UserError) as caught:
        strict.check()
    assert f"row {bad[0][0]}: " in str(caught.value)
    assert ("bad rows" in str(caught.value) or "rows like it" in str(caught.value)) == (len(bad) > 1)
    with pytest.raises(UserError):
        read(None, folder / "a.csv")


def test_rows_are_numbered_across_blocks_of_a_file(tmp_path: Path) -> None:
    """Three MiB: several blocks, with wrong lines and bad values in each; also without a header."""
    lines = [f"{k},{k % 7},{k + 1},1,{'x' * 20}" for k in range(90_000)]
    wrong, bad = range(5, 90_000, 9_001), range(17, 90_000, 10_007)
    for k in wrong:
        lines[k] += ",y"
    for k in bad:
        lines[k] = f"{k},,{k + 1},1,z"
    header = "u,i,t,like,text"
    for name, start, form in (
        ("a.csv", [header], CsvFormat()),
        ("b.data", [], CsvFormat("\t", tuple(header.split(",")))),
    ):
        text = "\n".join([*start, *lines])
        (tmp_path / name).write_text(text if start else text.replace(",", "\t"))
        side = side_files(tmp_path / name.replace(".", "_"))
        table = read(side, tmp_path / name, form=form)
        assert table["user_id"].equals(table["order"])
        assert table.num_rows == 90_000 - len(wrong) - len(bad)
        rows = pq.read_table(f"{side.folder}/dropped").to_pandas()
        assert sorted(rows.row[rows.column == ""]) == [k + 1 for k in wrong]
        assert sorted(rows.row[rows.column == "i"]) == [k + 1 for k in bad]


def test_first_and_number_over_files_and_row_groups(tmp_path: Path) -> None:
    data = pd.DataFrame({"u": range(30), "i": 1, "t": range(1, 31), "like": 0.0})
    first = data.assign(like=[2.0 if k in (9, 12, 20) else 0.0 for k in range(30)])
    second = data.assign(u=[None if k == 3 else k for k in range(30)]).astype({"u": "Int64"})
    for name, one in (("1.parquet", first), ("2.parquet", second)):
        pq.write_table(pa.Table.from_pandas(one, preserve_index=False), tmp_path / name, row_group_size=7)
    side = side_files(tmp_path / "out", keep_rows=False)
    table = read(side, tmp_path / "1.parquet", tmp_path / "2.parquet")
    assert table.num_rows == 56
    with pytest.raises(UserError) as caught:
        side.check()
    assert str(caught.value) == (
        f"{tmp_path}/1.parquet: column 'like', row 10: found 2.0; expected 0 or 1; 3 rows like it; 4 bad rows in all "
        "(by column: 'like' 3, 'u' 1; --on-error drop excludes them)"
    )
    assert not (tmp_path / "out" / "dropped").exists()  # nothing but numbers while it fails


def test_an_error_crosses_processes_as_its_message() -> None:
    bad = BadRows(Place("a.csv", 0, 5), "u", pa.array([2]).to_numpy(), "no id", "one")
    copy = pickle.loads(pickle.dumps(bad))
    assert type(copy) is UserError
    assert str(copy) == "a.csv: column 'u', row 8: no id; expected one"


def test_times_that_python_does_not_have_are_set_aside_too(tmp_path: Path) -> None:
    """Microseconds that were called milliseconds lie beyond the year 9999."""
    side, convert = side_files(tmp_path), converter()
    table = pa.table({"u": [1, 2], "i": [1, 2], "t": pa.array([10**12, 10**18], pa.timestamp("ms"))})
    with side.part("x") as part:
        assert len(clean(table, Place("log.parquet", 0), convert, part)) == 1
    (row,) = pq.read_table(tmp_path / "dropped").to_pylist()
    assert row["value"] == str(10**18)
    assert json.loads(row["raw"])["t"] == 10**18


def test_what_was_read_is_json_where_numbers_are_none(tmp_path: Path) -> None:
    """Strict readers refuse a bare NaN; such rows are what files of bad rows are full of."""
    side = side_files(tmp_path)
    table = pa.table({"u": [1, 2], "i": [1, 2], "t": [5, 6], "like": [float("nan"), float("-inf")], "s": [1, 1]})
    pq.write_table(table, tmp_path / "log.parquet")
    read(side, tmp_path / "log.parquet")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    rows = pq.read_table(tmp_path / "dropped").to_pylist()
    assert [json.loads(row["raw"], parse_constant=refuse)["like"] for row in rows] == ["NaN", "-Infinity"]


def test_many_lines_of_too_few_values_are_set_aside_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not line by line: a row group of Parquet for each took a kilobyte and a fifth of a millisecond."""
    monkeypatch.setattr(schemas, "BLOCK_BYTES", 4_096)
    short = np.random.default_rng(0).random(3_000) < 0.6
    lines = [f"{n},1,5" if is_short else f"{n},1,5,0,9" for n, is_short in enumerate(short)]
    file = tmp_path / "log.csv"
    file.write_text("\n".join(["u,i,t,like,s", *lines]) + "\n")
    side = side_files(tmp_path)
    rows = read(side, file)
    assert rows["order"].to_pylist() == rows["user_id"].to_pylist() == np.flatnonzero(~short).tolist()
    (dropped,) = (tmp_path / "dropped").iterdir()
    assert pq.read_table(dropped)["row"].to_pylist() == (np.flatnonzero(short) + 1).tolist()
    assert pq.read_metadata(dropped).num_row_groups <= file.stat().st_size // 4_096 + 2
    (reason,) = side.reasons()
    assert (reason.rows, reason.row, reason.expected) == (short.sum(), short.argmax() + 1, "5 in every line")


@pytest.mark.parametrize("dictionary", [False, True])
def test_texts_that_are_no_utf8_are_set_aside(tmp_path: Path, dictionary: bool) -> None:
    bytes_of = pa.array([b"\xff\xfe", b"a", b"b", b"c"])
    text = pa.Array.from_buffers(pa.string(), 4, bytes_of.buffers())  # as a reader of Parquet gives it
    table = pa.table({"u": text, "i": [1, 2, 3, 4], "t": [5, 6, 7, 8], "like": [0, 0, 1, 1]})
    if dictionary:
        table = table.set_column(0, "u", table["u"].combine_chunks().dictionary_encode())
    columns = converter({"u": pa.string()}, time_unit="s", feedback=["like"])
    line = r"a\.parquet: column 'u', row 1: found b'\\xff\\xfe'; expected text in UTF-8"
    with pytest.raises(UserError, match=line):
        clean(table, Place("a.parquet", 0), columns)
    side = Side(str(tmp_path), keep_rows=True)
    with side.part("0") as part:
        rows = clean(table, Place("a.parquet", 0), columns, part)
    assert rows["user_id"].to_pylist() == ["a", "b", "c"]
    (row,) = pq.read_table(tmp_path / "dropped").to_pylist()
    assert (row["row"], row["value"]) == (1, r"b'\xff\xfe'")
    with pytest.raises(BadRows, match="column 'u', row 1: found b'"):
        to_milliseconds(table["u"], None, Place("a.parquet", 0), "u")


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_rows_of_a_compressed_file_are_about_those_of_its_text(tmp_path: Path, ending: str) -> None:
    lines = "".join(f"{n % 977},{n * 7919 % 1000003},{1_700_000_000 + 31 * n},{n % 2},watch\n" for n in range(110_000))
    with pa.output_stream(tmp_path / f"a.csv{ending}") as file:  # packed by its name
        file.write(f"u,i,t,like,kind\n{lines}".encode())
    rows = _estimate_rows(str(tmp_path / f"a.csv{ending}"), PLAIN)
    assert 110_000 / 2.5 < rows < 110_000 * 2.5
