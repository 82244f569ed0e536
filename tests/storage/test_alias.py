"""An alias is moved in one step: whoever reads meanwhile sees the old target or the new one, whole."""

import threading
from pathlib import Path

import pytest

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.storage.alias import followed, point


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
    assert (tmp_path / "current" / "first").read_text() == "b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "current"]


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
    for turn in range(1000):
        point(alias, "ba"[turn % 2])
    done.set()
    reader.join()
    assert broken == []
    assert seen == {("a", "a"), ("b", "b")}
