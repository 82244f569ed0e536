"""Random YAML for `prefrec validate` and random CSV logs for `prefrec inspect`: status 0, or 2 and one line.

The examples are the same in each run (tests/conftest.py), except the many of the slow test.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefrec_ray.cli.main import run

ROOT = Path(__file__).parents[2]
SHIPPED = [*sorted((ROOT / "tune_configs").glob("*.yaml")), ROOT / "prefrec_ray/cli/quickstart.yaml"]
DOCUMENTS: list[dict[str, Any]] = [yaml.safe_load(file.read_text("utf-8")) for file in SHIPPED]


def keys(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key and every place of a list in `value`."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*path, key)
        yield from keys(below, (*path, key))


PLACES = [(document, path) for document in DOCUMENTS for path in keys(document)]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, -(2**70), 10**400, 0.0, -1.0, 1e-300, 1e300]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "nan", "1e400", "../x", "[/x]", "\u2028", "PrefRec", "depth", "robust", "grid", "auto"]),
    st.binary(max_size=3),
    st.dates(),
)
names = st.one_of(scalars, st.sampled_from(sorted({str(path[-1]) for _, path in PLACES})))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=4
)


def check(words: list[str], content: bytes, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(content)
    capsys.readouterr()
    status = run([*words, str(file)])
    out, err = capsys.readouterr()
    if status == 0:
        assert "prefrec: error" not in err
        assert "Traceback" not in out + err
    else:
        assert status == 2
        assert out == ""
        assert err.startswith("prefrec: error: ")
        assert len(err.splitlines()) == 1


OF_KEYS: dict[str, Any] = {"place": st.sampled_from(PLACES), "value": values}
#: Every example writes the file again and reads the output before and after.
SHARED_FIXTURES = [HealthCheck.function_scoped_fixture]


@settings(max_examples=60, suppress_health_check=SHARED_FIXTURES)
@given(**OF_KEYS)
def test_any_value_of_any_key(
    place: tuple[dict[str, Any], tuple[Any, ...]], value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, path = copy.deepcopy(place)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    check(["validate"], yaml.safe_dump(document).encode(), tmp_path / "config.yaml", capsys)


@settings(max_examples=40, suppress_health_check=SHARED_FIXTURES)
@given(document=st.dictionaries(st.sampled_from(["simulate", "prepare", "train", "evaluate", "tune"]) | names, values))
def test_any_sections(document: dict[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(["validate"], yaml.safe_dump(document).encode(), tmp_path / "config.yaml", capsys)


@settings(max_examples=40, suppress_health_check=SHARED_FIXTURES)
@given(text=st.text() | st.text("tune:{}[]&*!|>- \n\t'\"%@#?,0a"), codec=st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_any_text(text: str, codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(["validate"], text.encode(codec), tmp_path / "config.yaml", capsys)


@settings(max_examples=30, suppress_health_check=SHARED_FIXTURES)
@given(content=st.binary())
def test_any_bytes(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(["validate"], content, tmp_path / "config.yaml", capsys)


LOG = """user,item,time,like,watched\n""" + "".join(
    f"{user},{item},{1_700_000_000 + 600 * (7 * user + item)},{(user + item) % 2},{user * item / 7}\n"
    for user in range(6)
    for item in range(12)
)
cells = st.one_of(
    st.sampled_from(["", "NaN", "inf", "-1", "1e400", "9" * 40, "true", "null", "2024-02-30", "0x10", '"', "'", "\0"]),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.text(max_size=6),
)


OF_CELLS: dict[str, Any] = {
    "edits": st.lists(st.tuples(st.integers(0, 72), st.integers(0, 4), cells), max_size=6),
    "column": st.tuples(st.integers(0, 4), cells) | st.none(),
    "separator": st.sampled_from([",", ";", "\t", "|"]),
    "codec": st.sampled_from(["utf-8", "utf-8", "utf-8", "latin-1", "utf-16"]),
}
OF_BYTES: dict[str, Any] = {
    "cut": st.tuples(st.integers(0, len(LOG)), st.integers(0, len(LOG))),
    "inserted": st.binary(max_size=4) | st.text('",;\n\r\0\ufeff', max_size=4).map(str.encode),
}


@settings(max_examples=40, suppress_health_check=SHARED_FIXTURES)
@given(**OF_CELLS)
def test_any_cell_of_a_log(
    edits: list[tuple[int, int, str]],
    column: tuple[int, str] | None,
    separator: str,
    codec: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Single cells, the header among them, or all cells of a column."""
    rows = [line.split(",") for line in LOG.splitlines()]
    for row, place, cell in edits:
        rows[row][place] = cell
    if column is not None:
        for row in rows[1:]:
            row[column[0]] = column[1]
    text = "\n".join(separator.join(row) for row in rows)
    check(["inspect"], text.encode(codec, "replace"), tmp_path / "log.csv", capsys)


@settings(max_examples=40, suppress_health_check=SHARED_FIXTURES)
@given(**OF_BYTES)
def test_any_bytes_in_a_log(
    cut: tuple[int, int], inserted: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = LOG.encode()
    check(["inspect"], content[: min(cut)] + inserted + content[max(cut) :], tmp_path / "log.csv", capsys)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("test", "strategies"),
    [(test_any_value_of_any_key, OF_KEYS), (test_any_cell_of_a_log, OF_CELLS), (test_any_bytes_in_a_log, OF_BYTES)],
)
def test_many_more(test: Any, strategies: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @settings(max_examples=3_000, derandomize=False)
    @given(arguments=st.fixed_dictionaries(strategies))
    def many(arguments: dict[str, Any]) -> None:
        test.hypothesis.inner_test(tmp_path=tmp_path, capsys=capsys, **arguments)

    many()
