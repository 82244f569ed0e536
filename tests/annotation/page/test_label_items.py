"""Titles and pictures of items: any content is text, and no other file is read."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest

from prefrec_ray.annotation.page.timeline import Items, LabelItem, item_code
from prefrec_ray.errors import UserError
from prefrec_ray.storage.parquet import write_parquet

SECRET = "0123"


def test_titles_and_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a picture")
    (tmp_path / "secret.png").write_bytes(b"not of an item")
    file = tmp_path / "items.csv"
    file.write_text("item_id,title,picture\n7,A <b>title</b>,a.png\n007,Other,\n8,,gone.png\n")
    items = Items(str(file), SECRET)
    assert items(7) == items("7") == LabelItem("A <b>title</b>", "a.png")
    assert items("007") == LabelItem("Other")
    assert items(8) == LabelItem("(no title)", "gone.png")
    assert items(9).title == f"Item {item_code(SECRET, 9)}"
    assert items.picture("a.png") == (tmp_path / "a.png", "image/png")
    for name in ("gone.png", "secret.png", "items.csv", "", "../a.png"):
        assert items.picture(name) is None
    assert Items(None, SECRET)(7) == LabelItem(f"Item {item_code(SECRET, 7)}")


def test_words_that_stand_for_nothing_elsewhere_are_texts(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\nNA,Null\nnull,\n")
    items = Items(str(tmp_path / "items.csv"), SECRET)
    assert items("NA") == LabelItem("Null")
    assert items("null") == LabelItem("(no title)")


def test_pictures_lie_beside_a_file_below_ones_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"a picture")
    (tmp_path / "items.csv").write_text("item_id,title,picture\n7,Seven,a.png\n")
    assert Items("~/items.csv", SECRET).picture("a.png") == (tmp_path / "a.png", "image/png")


def test_a_picture_that_is_a_number(tmp_path: Path) -> None:
    file = str(tmp_path / "items.parquet")
    write_parquet(pa.table({"item_id": [1], "title": ["one"], "picture": [5]}), file)
    with pytest.raises(UserError, match="row 1: picture '5'; expected the name of a file"):
        Items(file, SECRET)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item_id\n1\n", "column 'title' is missing"),
        ("item_id,title\n1,a\n1,b\n", "row 2: item_id '1'; expected an id that is in no row above"),
        ("item_id,title,picture\n1,a,../b.png\n", "row 1: picture '../b.png'; expected the name of a file"),
        ("item_id,title,picture\n1,a,b.svg\n", "row 1: picture 'b.svg'"),
        ("item_id,title\n,a\n", "row 1: item_id ''; expected an id"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        Items(str(tmp_path / "items.csv"), SECRET)
    assert words in str(caught.value)


def test_a_field_beyond_the_limit_of_the_parser_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(f"item_id,title\n1,{'x' * 101}\n")
    before = csv.field_size_limit(100)
    try:
        with pytest.raises(UserError, match=r"items\.csv: not CSV \(field larger than field limit"):
            Items(str(tmp_path / "items.csv"), SECRET)
    finally:
        csv.field_size_limit(before)


def test_an_item_may_have_the_number_0(tmp_path: Path) -> None:
    write_parquet(pa.table({"item_id": [0], "title": ["zero"]}), str(tmp_path / "items.parquet"))
    assert Items(str(tmp_path / "items.parquet"), SECRET)(0) == LabelItem("zero")
