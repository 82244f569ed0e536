"""Features of items as tags, without Ray."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import BadRows, Place
from prefrec_ray.logs.tables import by_row, content_of, tags_of

PLACE = Place("movies.csv", -1)


def tags(values: list, kind: pa.DataType | None = None) -> list[list[str]]:
    return by_row(*tags_of(pa.chunked_array([pa.array(values, kind)]), PLACE, "f"), len(values)).to_pylist()


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (
            ["Action|Comedy", "Drama", "", None, " Sci-Fi | |Drama"],
            None,
            ["Action Comedy", "Drama", "", "", "Sci-Fi Drama"],
        ),
        ([["rock", None, "pop"], [], None], None, ["rock pop", "", ""]),
        ([[3, 5], [5]], None, ["3 5", "5"]),
        ([["a", "b"], None, [None, "c"]], pa.list_(pa.string(), 2), ["a b", "", "c"]),
        (["a", None], pa.dictionary(pa.int8(), pa.string()), ["a", ""]),
        ([1990, 1991, 1990], None, ["1990", "1991", "1990"]),
        ([True, False], None, ["true", "false"]),
        ([datetime.date(2020, 1, 2)], None, ["2020-01-02"]),
        ([None, None], pa.null(), ["", ""]),
    ],
)
def test_cells_become_tags(values: list, kind: pa.DataType | None, expected: list[str]) -> None:
    assert tags(values, kind) == [[f"f={name}" for name in cell.split()] for cell in expected]


@pytest.mark.parametrize("as_text", [False, True])
def test_many_numbers_become_ten_groups_of_equal_size(as_text: bool) -> None:
    years = [*range(1900, 2000), None, float("nan")]
    values = [None if year is None else str(year) for year in years] if as_text else years
    found = tags(values)
    assert found[0] == ["f=1900 to 1909.9"]
    assert found[99] == ["f=1989.1 to 1999"]
    assert found[100] == found[101] == []
    _, sizes = np.unique([cell[0] for cell in found[:100]], return_counts=True)
    assert sizes.tolist() == [10] * 10
    # Six digits would be equal for all of these.
    assert tags(list(range(20_240_101, 20_240_131)))[0] == ["f=20240101 to 20240104"]
    # One value in most cells: fewer groups, none of them empty.
    assert len({cell[0] for cell in tags([0] * 100 + list(range(30)))}) == 3


def test_what_cannot_be_a_feature_is_one_line() -> None:
    with pytest.raises(UserError, match=r"movies\.csv: column 'f' is binary; expected categories"):
        tags([b"x"])
    with pytest.raises(UserError, match=r"movies\.csv: column 'f' has 513 categories; expected at most 512"):
        tags([f"c{number}" for number in range(513)])
    text = pa.array([b"ok", b"\xff"]).view(pa.string())
    with pytest.raises(BadRows, match=r"movies\.csv: column 'f', row 2: .*text in UTF-8"):
        tags_of(pa.chunked_array([text]), PLACE, "f")


cells = st.lists(st.sampled_from("abcd"), max_size=3)


@given(st.lists(st.tuples(cells, cells, st.integers(0, 30)), min_size=1, unique_by=lambda row: row[2]), st.data())
def test_content_is_a_table_of_zeros_and_ones(rows: list, data: st.DataObject) -> None:
    """The table has two features, and lacks some of the items, which come in any order."""
    columns = [pa.array([row[number] for row in rows], pa.list_(pa.string())) for number in (0, 1)]
    tagged = [tags_of(pa.chunked_array([one]), PLACE, name) for one, name in zip(columns, "xy", strict=True)]
    row, tag = np.concatenate([one[0] for one in tagged]), pa.concat_arrays([one[1] for one in tagged])
    joined = by_row(row, tag, len(rows))
    assert joined.to_pylist() == [[f"x={c}" for c in x] + [f"y={c}" for c in y] for x, y, _ in rows]
    items = pa.table({"item_id": [row[2] for row in rows], "tags": joined})
    ids = np.sort(data.draw(st.lists(st.integers(0, 40), min_size=1, unique=True)))
    found = content_of(items, ids)
    names = sorted({name for cell in joined.to_pylist() for name in cell})
    of_item = {row[2]: set(cell) for row, cell in zip(rows, joined.to_pylist(), strict=True)}
    expected = [[float(name in of_item.get(item, ())) for name in names] for item in ids.tolist()]
    np.testing.assert_array_equal(found.tags.toarray(), np.reshape(expected, (len(ids), len(names))))
    assert (found.maker == -1).all()
    full = [f"{found.features[part]}={name}" for part, name in zip(found.feature, found.categories, strict=True)]
    assert full == names
