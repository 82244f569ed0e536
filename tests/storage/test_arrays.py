"""Arrays in files: back as they were, and every bad file one line, read without running or unpacking anything."""

import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from prefrec_ray import storage
from prefrec_ray.errors import UserError


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"weights": np.float32([[1, 2], [3, 4]]), "none": np.zeros((0, 3)), "number": np.array(7)}
    storage.write_arrays(str(tmp_path / "a.npz"), arrays)
    again = storage.read_arrays(str(tmp_path / "a.npz"))
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)


def test_arrays_of_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle=False"):
        storage.write_arrays(str(tmp_path / "a.npz"), {"calls": np.array([print], dtype=object)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["no archive", "empty", "truncated", "pickled", "compressed", "flipped"])
def test_bad_files_are_one_line(tmp_path: Path, kind: str) -> None:
    file, array = tmp_path / "a.npz", np.zeros(1000)
    np.savez(file, a=array)
    whole = file.read_bytes()
    if kind == "pickled":
        np.savez(file, a=np.array([print], dtype=object))
    elif kind == "compressed":
        np.savez_compressed(file, a=array)
    else:
        flipped = whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:]
        contents = {"no archive": b"arrays", "empty": b"", "truncated": whole[:-100], "flipped": flipped}
        file.write_bytes(contents[kind])
    with pytest.raises(UserError, match=r"a\.npz: not a file of plain arrays \(.+\)$"):
        storage.read_arrays(str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.npz: no such file"):
        storage.read_arrays(str(tmp_path / "b.npz"))


def test_no_flipped_bit_gives_other_numbers(tmp_path: Path) -> None:
    file, array = tmp_path / "a.npz", np.arange(12, dtype=np.float32)
    storage.write_arrays(str(file), {"a": array})
    whole = file.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        with suppress(UserError):
            found = storage.read_arrays(str(file))
            assert np.array_equal(found.get("a", array), array)


def test_other_members_than_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as members:
        members.writestr("readme", "hello")
    with pytest.raises(UserError, match=r"a\.npz: not a file of plain arrays \('readme' is none\)"):
        storage.read_arrays(str(tmp_path / "a.npz"))
    with pytest.raises(UserError, match="cannot be read"):
        storage.read_arrays(str(tmp_path))
