"""Logs in Parquet and CSV: the same rows in the order of the log, and errors of one line."""

import csv
import gzip
import io
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.inspection.log import inspect_log
from prefrec_ray.logs.contract import Place, Side
from prefrec_ray.logs.fragments import batches
from prefrec_ray.logs.log import Log, to_canonical
from prefrec_ray.logs.readers.files import types_in_files
from prefrec_ray.logs.schemas import BLOCK_BYTES, CsvFormat, Lines, padded_columns, schema
from prefrec_ray.logs.side_tables import UsersTable
from prefrec_ray.logs.sources import FilesSource
from prefrec_ray.logs.tables import user_table
from prefrec_ray.settings import parse

COLUMNS = {"kind": "files", "user": "u", "item": "i", "time": "t", "time_unit": "s", "feedback": ["like"]}


def frame(rows: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "u": rng.integers(0, 9, rows),
            "i": [f"ítem {k}" for k in rng.integers(0, 5, rows)],
            "t": rng.integers(0, 10**9, rows),
            "like": rng.random(rows).astype(np.float32),
            "unused": "x",
        }
    )


def write(data: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pandas(data, preserve_index=False), path, row_group_size=7)
    else:
        data.to_csv(path, index=False)
    return path


def open_source(path: Path, **changes: object) -> Log:
    return parse(FilesSource, {**COLUMNS, "path": str(path), **changes}, "test").open_log(seed=0)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_rows_come_in_the_order_of_the_log(ray_session: None, tmp_path: Path, suffix: str) -> None:
    parts = [frame(30, seed) for seed in range(3)]
    for number, part in enumerate(parts):
        write(part, tmp_path / f"part-{number}{suffix}")
    write(parts[0].head(0), tmp_path / f"part-9{suffix}")
    (tmp_path / "README.txt").write_text("no part of the log")
    log = open_source(tmp_path)
    rows = log.interactions().to_pandas().sort_values("order")
    source_rows = pd.concat(parts)
    assert rows.order.is_unique
    assert rows.user_id.tolist() == source_rows.u.tolist()
    assert rows.item_id.tolist() == source_rows.i.tolist()
    assert rows.timestamp.tolist() == (source_rows.t * 1000).tolist()
    np.testing.assert_array_equal(rows.like.to_numpy(np.float32), source_rows.like.to_numpy())
    assert (log.rows == 90) if suffix == ".parquet" else log.rows > 0


def test_columns_of_parquet_have_several_forms(tmp_path: Path) -> None:
    data = frame(12)
    data["u"] = [f"user {k}" for k in data.u]
    plain = other = pa.Table.from_pandas(data, preserve_index=False)
    for name, form in {"u": pa.string_view(), "i": pa.string_view(), "t": pa.decimal32(9, 0)}.items():
        values = map(Decimal, plain[name].to_pylist()) if name == "t" else plain[name].to_pylist()
        other = other.set_column(other.column_names.index(name), name, pa.array(values, form))
    source = parse(FilesSource, {**COLUMNS, "path": "x"}, "test")
    tables = []
    for number, table in enumerate((plain, other)):
        file = str(tmp_path / f"{number}.parquet")
        pq.write_table(table, file)
        ((read, place),) = batches(Place(file, 0), source.columns)
        tables.append(to_canonical(read, place, source, types_in_files(source, [file])))
    assert tables[0].equals(tables[1])
    users = user_table(UsersTable(path=str(tmp_path / "1.parquet"), id="t", features=["u"]), pa.int64())
    assert users["u"].to_pylist() == data.u.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_feedback_is_1_in_rows_with_a_value(ray_session: None, tmp_path: Path, suffix: str) -> None:
    data = frame(6)
    data["event"], data["code"] = ["view", "buy", None, "Buy", "cart", "buy"], [1, 2, 3, 1, 12, 2]
    several = {"bought": {"column": "event", "equals": ["buy", "cart"]}, "first": {"column": "code", "equals": 1}}
    log = open_source(write(data, tmp_path / f"a{suffix}"), feedback=several)
    rows = log.interactions().to_pandas().sort_values("order")
    assert rows.bought.tolist() == [0, 1, 0, 0, 1, 1]
    assert rows["first"].tolist() == [1, 0, 0, 1, 0, 0]
    assert log.feedback_kinds == {"bought": "binary", "first": "binary"}


@pytest.mark.parametrize("other", [{"kind": "count"}, {"missing": 0.0}])
def test_feedback_that_equals_has_no_other_kind(other: dict) -> None:
    feedback = {"bought": {"column": "event", "equals": "buy", **other}}
    with pytest.raises(UserError, match="equals: makes the feedback binary, with 0 for empty cells; remove"):
        parse(FilesSource, {**COLUMNS, "path": "x", "feedback": feedback}, "test")


def test_fractions_are_compared_with_nothing(tmp_path: Path) -> None:
    source = {"feedback": {"liked": {"column": "like", "equals": "1"}}}
    with pytest.raises(UserError, match="column 'like' is double; expected text or integers, for `equals`"):
        open_source(write(frame(4).assign(like=0.5), tmp_path / "a.parquet"), **source)


@pytest.mark.parametrize("own", [",", ";", "\t", "|", "~"])
def test_a_table_beside_a_log_may_have_another_delimiter(tmp_path: Path, own: str) -> None:
    """A usual delimiter is found; an unusual one has to be the delimiter of the log."""
    file = tmp_path / "users.csv"
    pd.DataFrame({"id": [3, 5], "country": ["d;e", "a,t"], "age": [40, 70]}).to_csv(file, sep=own, index=False)
    source = UsersTable(path=str(file), id="id", features=["country", "age"])
    if own == "~":
        with pytest.raises(UserError, match=r"users.csv: column 'id' is missing; found id~country~age"):
            user_table(source, pa.int64(), form=CsvFormat(";"))
    table = user_table(source, pa.int64(), form=CsvFormat(own if own == "~" else ";"))
    assert table["user_id"].to_pylist() == [3, 5]
    assert table["country"].to_pylist() == ["d;e", "a,t"]


def test_lines_of_wrong_length_in_a_table_beside_a_log_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("id,f\n1,a\n2,b,c\n1,d\n3,e\n")
    side = Side(str(tmp_path), keep_rows=True)
    with side.part("users") as part:
        table = user_table(UsersTable(path=str(tmp_path / "users.csv"), id="id", features="f"), pa.int64(), part)
    assert table["user_id"].to_pylist() == [1, 3]
    assert [(reason.row, reason.found) for reason in side.reasons()] == [
        (2, "found 3 values (2,b,c)"),
        (3, "found 1 again"),
    ]


def test_ids_in_csv_are_text_where_one_file_has_text(ray_session: None, tmp_path: Path) -> None:
    numbers, names = frame(5), frame(5)
    names["u"] = ["00", "a", "b", "a", "é"]
    write(numbers, tmp_path / "1.csv")
    assert open_source(tmp_path).interactions().schema().types[0] == pa.int64()
    write(names, tmp_path / "2.csv")
    rows = open_source(tmp_path).interactions().to_pandas().sort_values("order")
    assert rows.user_id.tolist() == [str(u) for u in numbers.u] + names.u.tolist()


def test_feedback_may_have_names_of_its_own(ray_session: None, tmp_path: Path) -> None:
    log = open_source(write(frame(4), tmp_path / "a.csv"), feedback={"liked": "like", "again": "like"}, reward="t")
    assert log.feedback == ("liked", "again")
    assert log.has_reward
    rows = log.interactions().to_pandas()
    assert (rows.liked == rows.again).all()
    assert (rows.timestamp / 1000).astype(np.float32).tolist() == rows.reward.tolist()


def test_tables_of_users_and_items(ray_session: None, tmp_path: Path) -> None:
    path = write(frame(4), tmp_path / "a.parquet")
    write(pd.DataFrame({"uid": [3, 4], "age": ["030", None], "city": ["Å", "B"]}), tmp_path / "users.csv")
    write(pd.DataFrame({"iid": ["p", "q"], "x": [0.5, 0], "y": [-1.0, 1.0]}), tmp_path / "items.csv")
    log = open_source(
        path,
        users={"path": str(tmp_path / "users.csv"), "id": "uid", "features": ["city", "age"]},
        items={"path": str(tmp_path / "items.csv"), "id": "iid", "embedding": ["x", "y"]},
    )
    assert log.users.to_pydict() == {"user_id": [3, 4], "city": ["Å", "B"], "age": ["030", None]}
    assert log.items.to_pydict() == {"item_id": ["p", "q"], "embedding": [[0.5, -1.0], [0.0, 1.0]]}
    pq.write_table(pa.table({"iid": ["p", "q"], "e": [[0.5, -1.0], [0.0, 1.0]]}), tmp_path / "items.parquet")
    items = {"path": str(tmp_path / "items.parquet"), "id": "iid", "embedding": "e"}
    assert open_source(path, items=items).items.equals(log.items)


def test_items_may_have_titles(ray_session: None, tmp_path: Path) -> None:
    path = write(frame(4), tmp_path / "a.parquet")
    table = {"iid": ["p", "q"], "x": [0.5, 0], "name": ["Tea, <b>green</b>", None]}
    write(pd.DataFrame(table), tmp_path / "items.csv")
    items = {"path": str(tmp_path / "items.csv"), "id": "iid", "embedding": ["x"], "title": "name"}
    columns = open_source(path, items=items).items.to_pydict()
    assert list(columns) == ["item_id", "embedding", "title"]
    assert columns["title"][0] == "Tea, <b>green</b>"
    pq.write_table(pa.table({**table, "name": [["a"], ["b"]]}), tmp_path / "items.parquet")
    with pytest.raises(UserError, match=r"items\.parquet: column 'name' is list<.*string>; expected text"):
        open_source(path, items={**items, "path": str(tmp_path / "items.parquet")})


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ({"iid": ["p", "p"], "e": [[0.0], [0.0]]}, ["'iid'", "row 2", "found p again", "each id once"]),
        ({"iid": ["p", "q"], "e": [[0.0, 0.1], [0.0]]}, ["'e'", "row 2", "a list of 1", "2 numbers"]),
        ({"iid": ["p", "q"], "e": [[0.0], [1.5]]}, ["'e'", "row 2", "1.5", "[-1, 1]"]),
        ({"iid": ["p", "q"], "e": [[0.0], [float("nan")]]}, ["'e'", "row 2", "finite"]),
        ({"iid": ["p", "q"], "e": [0.0, 1.0]}, ["'e'", "double", "lists of numbers"]),
        ({"iid": ["p", "q"], "f": [[0.0], [1.0]]}, ["'e' is missing", "found iid, f"]),
    ],
)
def test_bad_item_tables(ray_session: None, tmp_path: Path, items: dict, words: list[str]) -> None:
    path = write(frame(4), tmp_path / "a.parquet")
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    with pytest.raises(UserError) as caught:
        open_source(path, items={"path": str(tmp_path / "items.parquet"), "id": "iid", "embedding": "e"})
    assert "items.parquet: " in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("key", "table", "words"),
    [
        ("users", {"id": [1], "f": [["a"]]}, "column 'f' is list<.*string>; expected text"),
        ("users", {"id": [1], "f": [b"\xff"]}, "column 'f' is binary; expected text"),
        ("users", {"id": [[1]], "f": ["a"]}, "column 'id' is list<.*int64>; expected an integer id"),
        ("items", {"id": ["p"], "e": [[0.5]], "title": [b"\xff"]}, "column 'title' is binary; expected text"),
        ("items", {"id": ["p"], "e": [["0.5"]], "title": ["x"]}, "column 'e' is list<.*string>; expected lists of num"),
        ("items", {"id": ["p"], "e": [[[0.5]]], "title": ["x"]}, "column 'e' is list<.*>>; expected lists of numbers"),
    ],
)
def test_columns_of_tables_that_do_not_fit(
    ray_session: None, tmp_path: Path, key: str, table: dict, words: str
) -> None:
    path = write(frame(4), tmp_path / "a.parquet")
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    about = {"users": {"features": "f"}, "items": {"embedding": "e", "title": "title"}}[key]
    with pytest.raises(UserError, match=rf"t\.parquet: {words}"):
        open_source(path, **{key: {"path": str(tmp_path / "t.parquet"), "id": "id", **about}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"item": "u"}, "item: found the column 'u' of user; expected another column"),
        ({"session": "i"}, "session: found the column 'i' of item"),
        ({"reward": "like"}, "feedback 'like' is the reward, which is never in the state; expected one of both"),
        ({"users": {"path": "y", "id": "id", "features": ["age", "id"]}}, "features: 'id' is the id; expected other"),
        ({"items": {"path": "y", "id": "id", "features": "id"}}, "expected each column once, and not the id 'id'"),
        ({"items": {"path": "y"}}, "expected embedding, features or title"),
    ],
)
def test_columns_that_cannot_be_both(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(FilesSource, {**COLUMNS, "path": "x", **changes}, "test")


def test_a_feature_of_too_many_categories(ray_session: None, tmp_path: Path) -> None:
    path = write(frame(4), tmp_path / "a.parquet")
    write(pd.DataFrame({"user_id": range(600), "zip": [f"z{k}" for k in range(600)]}), tmp_path / "users.csv")
    with pytest.raises(UserError, match=r"users.csv: column 'zip' has 600 categories; expected at most 512"):
        open_source(path, users={"path": str(tmp_path / "users.csv"), "features": ["zip"]})


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", {"u": [1], "t": [1], "like": [1]}, ["a.csv: column 'i' is missing", "found u, t, like"]),
        ("a.csv", {"u ": [1], "i": [1], "t": [1], "like": [1]}, ["'u' is missing", "found 'u ', i, t, like"]),
        ("a.parquet", {"u": [1.5], "i": [1], "t": [1], "like": [1]}, ["a.parquet: column 'u' is double", "integers"]),
        ("a.parquet", {"u": [1], "i": [1], "t": [1], "like": ["x"]}, ["column 'like' is", "string", "numbers"]),
        ("a.parquet", {"u": [1], "i": [1], "t": [True], "like": [1]}, ["column 't' is bool", "times"]),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, name: str, data: dict, words: list[str]) -> None:
    write(pd.DataFrame(data), tmp_path / name)
    with pytest.raises(UserError) as caught:
        open_source(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value


def test_files_that_do_not_fit(ray_session: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such file or folder"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no Parquet or CSV files"):
        open_source(tmp_path)
    (tmp_path / "a.parquet").write_text("no Parquet")
    with pytest.raises(UserError, match=r"a.parquet: not readable as Parquet"):
        open_source(tmp_path)
    (tmp_path / "a.parquet").unlink()
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(UserError, match=r"a.csv: not readable as CSV \(Empty CSV file"):
        open_source(tmp_path)
    (tmp_path / "a.csv").write_text("u,i,t,like\n1,2,3,4\n5,6,7\n")
    with pytest.raises(Exception, match=r"a.csv: row 2: found 3 values \(5,6,7\); expected 4 in") as caught:
        open_source(tmp_path).interactions().to_pandas()
    (tmp_path / "a.csv").write_text('u,i,t,like\n1,2,3,4\n5,6,"7\n8,9\n')
    with pytest.raises(
        Exception, match=r"a.csv: row 2: found 3 values \('5,6,\"7\\n8,9'\); expected 4 in every"
    ) as caught:
        open_source(tmp_path).interactions().to_pandas()
    assert "\n" not in str(find_user_error(caught.value))


@pytest.mark.parametrize("rest", ["", '6,2,3,4,"8 inch\n7,2,3,4,x\n', '6,2,3,4,"a b"\n', '6,2,3,4,"ab" c\n'])
def test_an_open_quote_takes_no_rows(tmp_path: Path, rest: str) -> None:
    """The last column is not even read. The file may end within the quote, or have further quotes."""
    (tmp_path / "a.csv").write_text('u,i,t,like,name\n1,2,3,4,"a""b"\n\n5,2,3,4,"7 inch\n6,2,3,4,x\n' + rest)
    limit = csv.field_size_limit()
    with pytest.raises(UserError, match=r"a.csv: row 2: found a quote that opens in line 4; expected its closing"):
        list(open_source(tmp_path).tables())
    assert csv.field_size_limit() == limit  # of all readers in this process


def test_a_process_may_end_while_a_file_is_read(tmp_path: Path) -> None:
    """Arrow's thread reads ahead through Python, and aborted the process at its exit."""
    (tmp_path / "a.csv").write_text("a,b\n" + "1,hello world hello world\n" * 1_000_000)
    script = (
        "from prefrec_ray.logs.contract import Place; from prefrec_ray.logs.fragments import batches\n"
        f"rows = batches(Place({str(tmp_path / 'a.csv')!r}, 0), ['a']); next(rows); raise SystemExit(2)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")


class SlowFile:
    """A file on a slow disk, which notes whether it is closed during a read."""

    closed = False

    def __init__(self, content: bytes) -> None:
        self._content, self._reads, self.closed_in_a_read = io.BytesIO(content), 0, False

    def read(self, size: int) -> bytes:
        self._reads += 1
        time.sleep(0.05)
        block = self._content.read(size)
        self._reads -= 1
        return block

    def __enter__(self) -> "SlowFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.closed_in_a_read |= self._reads > 0


def test_a_file_ends_between_two_reads() -> None:
    """Arrow does not wait for its thread after an error."""
    file = SlowFile(b"1,2,3,4\n")
    lines = Lines(file)
    reading = Thread(target=lines.read, args=(9,))
    reading.start()
    time.sleep(0.01)
    lines.end()
    file.__exit__()
    reading.join()
    assert not file.closed_in_a_read
    assert lines.count == 1


def test_no_file_is_closed_while_arrow_reads_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next file that any thread opens has the same descriptor, and lost its header to such a read."""
    file = tmp_path / "a.csv"
    file.write_text("u,i,t,like\n" + "1,2,3,4\n" * (5 * BLOCK_BYTES // 8))
    opened: list[SlowFile] = []

    class Disk:
        def open_input_stream(self, path: str) -> SlowFile:
            opened.append(SlowFile(Path(path).read_bytes()))
            return opened[-1]

    monkeypatch.setattr("prefrec_ray.storage.filesystem", lambda uri: (Disk(), uri))
    assert schema(str(file)).names == ["u", "i", "t", "like"]
    assert padded_columns(str(file), ["u"]) == set()
    rows = batches(Place(str(file), 0), ["u"])
    next(rows)
    rows.close()
    time.sleep(0.2)
    assert len(opened) == 4
    assert not any(file.closed_in_a_read for file in opened)


def test_the_header_is_checked_again_when_rows_are_read(tmp_path: Path) -> None:
    log = open_source(write(frame(5), tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text("0,3.5,1139004407000,1\n" * 5)
    expected = r"a.csv: found another header; expected the columns u, i, t, like, as before \(did the file change\?\)$"
    with pytest.raises(UserError, match=expected):
        list(log.tables())


def test_the_first_block_may_end_in_a_quoted_value(tmp_path: Path) -> None:
    """Only the first two blocks are read for types, and the second one may end anywhere."""
    for cut in range(-30, 0, 3):
        start = "u,i,t,like,name\n" + "1,2,3,4,x\n" * 200_000
        start = start[: 2 * BLOCK_BYTES + cut].rpartition("\n")[0] + "\n"
        text = start + '1,2,3,4,"' + "long\n" * 20 + '"\n' + "1,2,3,4,x\n" * 2
        (tmp_path / "a.csv").write_text(text)
        log = open_source(tmp_path / "a.csv")
        assert sum(map(len, log.tables())) == start.count("\n") + 2


@pytest.mark.parametrize("end", ["", "\n", "\r\n\n"])
def test_values_may_have_line_breaks(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.csv").write_text(f'u,i,t,like,name\n1,2,3,4,"a"b\n5,6,7,8,"two\n""lines"""{end}', newline="")
    assert sum(map(len, open_source(tmp_path).tables())) == 2


@pytest.mark.parametrize("column", range(4))
def test_a_cell_after_the_first_block_that_is_not_utf8(tmp_path: Path, column: int) -> None:
    values = [b"1", b"2", b"1700000000", b"1"]
    good = b",".join(values) + b"\n"
    values[column] = b"0\xe9"
    rows = BLOCK_BYTES // len(good) + 1
    (tmp_path / "a.csv").write_bytes(b"u,i,t,like\n" + good * rows + b",".join(values) + b"\n" + good)
    side = Side(str(tmp_path), keep_rows=True)
    source = parse(FilesSource, {**COLUMNS, "path": str(tmp_path / "a.csv")}, "test")
    assert sum(map(len, source.open_log(0, side).tables())) == rows + 1
    (reason,) = side.reasons()
    assert (reason.row, reason.rows, reason.found) == (rows + 1, 1, r"found b'0\xe9'")


ROWS = "u,i,t,like,name\n" + "1,2,3,4,caf\xe9\n" * 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ROWS.encode("latin-1"), "line 2 is not UTF-8; expected text in UTF-8"),
        (ROWS.replace("name", "n\xe4me").encode("latin-1"), "line 1 is not UTF-8"),
        ((ROWS + "1,caf\xe9\n").encode("latin-1"), "line 2 is not UTF-8"),
        (ROWS.encode("utf-16"), "line 1 is not UTF-8"),
        (gzip.compress(ROWS.encode(), mtime=0), "gzip by its content; expected a name that ends in .csv.gz"),
        (b"PAR1\x15\x04", "Parquet by its content; expected a name that ends in .parquet"),
        (b'{"u": 1, "i": 2}\n', "expected Parquet or CSV, or kind: ray_data, read: read_json"),
    ],
)
def test_csv_by_its_name_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, words: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    for read in (open_source, lambda path: inspect_log([str(path)])):
        with pytest.raises(UserError, match=words) as caught:
            read(tmp_path / "a.csv")
        assert str(caught.value).startswith(f"{tmp_path}/a.csv: ")
    assert capfd.readouterr().err == ""


def test_a_character_that_the_first_block_cuts_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ab\n" + "é\n" * BLOCK_BYTES, encoding="utf-8")
    assert schema(str(tmp_path / "a.csv")).names == ["ab"]


def test_types_of_ids_agree_between_files(tmp_path: Path) -> None:
    write(frame(3), tmp_path / "1.parquet")
    write(frame(3).astype({"u": str}), tmp_path / "2.parquet")
    with pytest.raises(UserError, match=r"2.parquet: column .u. is string, but int64 in .*1.parquet"):
        open_source(tmp_path)


def test_ids_with_leading_zeros_are_text(tmp_path: Path) -> None:
    """If ids were numbers, 007 and 7 would silently be one user."""
    data = frame(3).astype({"u": str})
    data["u"] = ["007", "7", "12"]
    source = parse(FilesSource, {**COLUMNS, "path": str(write(data, tmp_path / "a.csv"))}, "test")
    assert types_in_files(source, [str(tmp_path / "a.csv")])["u"] == pa.string()
    (tmp_path / "b.csv").write_text("u,i,t,like\n7,1,1,0\n1,2\n0,1,2,0\n")  # a bad line is for later
    assert types_in_files(source, [str(tmp_path / "b.csv")])["u"] == pa.int64()


@pytest.mark.parametrize("name", ["session", "split", "order", "user_id"])
def test_names_of_feedback_that_are_taken(name: str) -> None:
    with pytest.raises(UserError, match=f"feedback '{name}': this name is taken; map another name to the column"):
        parse(FilesSource, {**COLUMNS, "path": "x", "feedback": [name]}, "test")


@pytest.mark.parametrize("features", [["user_id"], ["age", "age"]])
def test_features_of_users_have_names_of_their_own(features: list[str]) -> None:
    with pytest.raises(UserError, match="key 'users': features: expected each feature once, and not the name user_id"):
        parse(FilesSource, {**COLUMNS, "path": "x", "users": {"path": "y", "features": features}}, "test")


@pytest.mark.parametrize("delimiter", ["é", "\n", "", "::"])
def test_delimiters_that_part_no_csv(delimiter: str) -> None:
    with pytest.raises(UserError, match="key 'delimiter': expected one ASCII character, no line break, found "):
        parse(FilesSource, {**COLUMNS, "path": "x", "delimiter": delimiter}, "test")
