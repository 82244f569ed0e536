"""Whatever a YAML holds, `prefrec validate` ends with 0, or with 2 and one line: never with a traceback."""

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


def check(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "config.yaml"
    file.write_bytes(content)
    capsys.readouterr()
    status = run(["validate", str(file)])
    out, err = capsys.readouterr()
    if status == 0:
        assert err == ""
    else:
        assert status == 2
        assert out == ""
        assert err.startswith("prefrec: error: ")
        assert len(err.splitlines()) == 1


#: Every example writes the file again and reads the output before and after.
SHARED_FIXTURES = [HealthCheck.function_scoped_fixture]


@settings(max_examples=150, suppress_health_check=SHARED_FIXTURES)
@given(place=st.sampled_from(PLACES), value=values)
def test_any_value_of_any_key(
    place: tuple[dict[str, Any], tuple[Any, ...]], value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, path = copy.deepcopy(place)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    check(yaml.safe_dump(document).encode(), tmp_path, capsys)


@settings(max_examples=60, suppress_health_check=SHARED_FIXTURES)
@given(document=st.dictionaries(st.sampled_from(["simulate", "prepare", "train", "evaluate", "tune"]) | names, values))
def test_any_sections(document: dict[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(yaml.safe_dump(document).encode(), tmp_path, capsys)


@settings(max_examples=60, suppress_health_check=SHARED_FIXTURES)
@given(text=st.text() | st.text("tune:{}[]&*!|>- \n\t'\"%@#?,0a"), codec=st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_any_text(text: str, codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(text.encode(codec), tmp_path, capsys)


@settings(max_examples=40, suppress_health_check=SHARED_FIXTURES)
@given(content=st.binary())
def test_any_bytes(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(content, tmp_path, capsys)
