"""An alias moves in one step: a reader sees the old target or the new one."""

import threading
from pathlib import Path

import pytest

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.storage.alias import followed, point, read_alias


def targets(folder: Path) -> None:
    for name in ("a", "b"):
        for part in ("first", "second"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / part).write_text(name)


def test_it_is_followed_to_where_it_points_now(tmp_path: Path) -> None:
    targets(tmp_path)
    alias = str(tmp_path / "current")
    point(alias, "a")
    assert followed(alias) == str(tmp_path / "a")
    point(alias, "b")
    assert followed(alias) == str(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "current.json"]


def test_its_owner_keeps_more_in_the_same_file(tmp_path: Path) -> None:
    alias = str(tmp_path / "current")
    assert read_alias(alias) is None
    point(alias, "a", history=[1, 2])
    assert read_alias(alias) == {"target": "a", "history": [1, 2]}
    point(alias, "b")
    assert read_alias(alias) == {"target": "b"}


def test_a_damaged_alias_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "current.json").write_text('{"target": 3}')
    with pytest.raises(UserError, match=r"/current\.json: expected the key 'target' with the name of a folder$"):
        followed(str(tmp_path / "current"))


def test_a_bundle_next_to_a_file_of_its_name_is_itself(tmp_path: Path) -> None:
    targets(tmp_path)
    (tmp_path / "a.json").write_text('{"target": "b"}')
    assert followed(str(tmp_path / "a")) == str(tmp_path / "a")


def test_what_is_no_alias_is_itself(tmp_path: Path) -> None:
    for uri in (str(tmp_path), str(tmp_path / "missing")):
        assert followed(uri) == uri


def test_a_folder_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    with pytest.raises(UserError, match="found a file or folder of that name"):
        point(str(tmp_path / "current"), "a")


def test_it_moves_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    targets(tmp_path / "x")
    point(str(tmp_path / "x" / "current"), "a")
    (tmp_path / "x").rename(tmp_path / "y")
    assert followed(str(tmp_path / "y" / "current")) == str(tmp_path / "y" / "a")


def test_a_reader_never_sees_a_missing_or_a_half_alias(tmp_path: Path) -> None:
    targets(tmp_path)
    alias, done, seen = str(tmp_path / "current"), threading.Event(), set()
    point(alias, "a")
    broken: list[str] = []

    def read() -> None:
        while not done.is_set():
            folder = followed(alias)
            try:
                seen.add(tuple(storage.read_text(storage.join(folder, part)) for part in ("first", "second")))
            except UserError as error:
                broken.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(300):
        point(alias, "ba"[turn % 2])
    done.set()
    reader.join()
    assert broken == []
    assert seen == {("a", "a"), ("b", "b")}
