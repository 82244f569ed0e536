"""Arrays in files: back as they were, and every bad file one line, read without running or unpacking anything."""

import io
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors import numpy as safetensors

from prefrec_ray import storage
from prefrec_ray.errors import UserError

ARRAYS = {"weight": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.float32([1, -2, 3])}
FORMS: dict[str, storage.Form] = {"bias": (np.float32, (3,)), "weight": (np.float32, (None, 4))}


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


WHOLE = packed(ARRAYS)


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"weights": np.float32([[1, 2], [3, 4]]), "none": np.zeros((0, 3)), "number": np.array(7)}
    storage.write_arrays(str(tmp_path / "a.npz"), arrays)
    again = storage.read_arrays(str(tmp_path / "a.npz"))
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)


@given(
    arrays=st.dictionaries(
        st.text(max_size=8).filter(lambda name: name != "__metadata__"),
        npst.arrays(st.sampled_from([np.float32, np.float64, np.int32]), npst.array_shapes(min_dims=0, min_side=0)),
    ),
    by_column=st.booleans(),
)
def test_safetensors_has_the_same_numbers_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray], by_column: bool
) -> None:
    file = str(tmp_path_factory.getbasetemp() / "a.safetensors")
    given_order = {name: np.asarray(array, order="F" if by_column else "C") for name, array in arrays.items()}
    storage.write_arrays(file, given_order)
    again = storage.read_arrays(file, {name: (array.dtype.type, array.shape) for name, array in arrays.items()})
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert (again[name].dtype, again[name].shape) == (array.dtype, array.shape)
        assert again[name].tobytes() == array.tobytes()
        assert again[name].flags.writeable


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "not a file of plain arrays (.*)"),
        (b"no header", "not a file of plain arrays (.*)"),
        (safetensors.save(ARRAYS)[:-3], "not a file of plain arrays (.*)"),
        (safetensors.save({"bias": ARRAYS["bias"]}), "arrays 'weight' are missing"),
        (
            safetensors.save({**ARRAYS, "bias": np.zeros(3)}),
            r"array 'bias' is float64 of shape \[3\]; expected",
        ),
    ],
)
def test_bad_safetensors_are_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.safetensors: {line}"):
        storage.read_arrays(str(tmp_path / "a.safetensors"), FORMS)


def test_arrays_of_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle=False"):
        storage.write_arrays(str(tmp_path / "a.npz"), {"calls": np.array([len], dtype=object)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["no archive", "empty", "truncated", "pickled", "compressed", "flipped"])
def test_bad_files_are_one_line(tmp_path: Path, kind: str) -> None:
    file, array = tmp_path / "a.npz", np.zeros(1000)
    np.savez(file, a=array)
    whole = file.read_bytes()
    if kind == "pickled":
        np.savez(file, a=np.array([len], dtype=object))
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
            arrays = storage.read_arrays(str(file))
            assert np.array_equal(arrays.get("a", array), array)


@settings(deadline=None, max_examples=200)
@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 10_000)),
    extra=st.binary(max_size=3),
)
def test_a_damaged_file_is_one_line_or_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], cut: int | None, extra: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged.npz"
    content = bytearray(WHOLE)
    for place, bits in flips:
        content[place % len(content)] ^= bits
    file.write_bytes(content[: cut and cut % len(content)] + extra)
    with suppress(UserError):
        again = storage.read_arrays(str(file), FORMS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(again[name], array)


def refused(folder: Path, content: bytes, forms: dict[str, storage.Form] | None) -> str:
    """The line by which a file is refused."""
    (folder / "a.npz").write_bytes(content)
    with pytest.raises(UserError) as error:
        storage.read_arrays(str(folder / "a.npz"), forms)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{folder}/a.npz: ")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"bias": None}, "arrays 'bias' are missing"),
        ({"a\nb": ARRAYS["bias"]}, "arrays 'a\\nb' are not expected"),
        ({"bias": np.zeros(4, np.float32)}, "array 'bias' is float32 of shape [4]; expected float32 of [3]"),
        ({"bias": np.zeros((3, 1), np.float32)}, "array 'bias' is float32 of shape [3, 1]; expected float32 of [3]"),
        ({"bias": np.zeros(3)}, "array 'bias' is float64 of shape [3]; expected float32 of [3]"),
        ({"bias": np.array([len] * 3)}, "array 'bias' is object of shape [3]; expected float32 of [3]"),
        (
            {"weight": np.zeros((4, 3), np.float32)},
            "array 'weight' is float32 of shape [4, 3]; expected float32 of [any, 4]",
        ),
    ],
)
def test_other_arrays_than_expected(tmp_path: Path, changes: dict[str, np.ndarray | None], line: str) -> None:
    arrays = {name: array for name, array in {**ARRAYS, **changes}.items() if array is not None}
    assert refused(tmp_path, packed(arrays), FORMS) == line


def test_what_is_expected_comes_in_that_order(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(packed({**ARRAYS, "weight": np.asfortranarray(ARRAYS["weight"])}))
    again = storage.read_arrays(str(tmp_path / "a.npz"), FORMS)
    assert list(again) == list(FORMS) != list(ARRAYS)
    np.testing.assert_array_equal(again["weight"], ARRAYS["weight"])
    again["weight"] += 1  # it may be written to


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    """100 MB in a file of 100 kB, and in a file of 500 bytes with a wrong header, for any expected form."""
    lie, header = io.BytesIO(packed({"bias": ARRAYS["bias"]})), io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": (5_000, 5_000)}
    np.lib.format.write_array_header_1_0(header, fields)
    with zipfile.ZipFile(lie, "a") as archive:
        archive.writestr("weight.npy", header.getvalue())
    bomb = io.BytesIO(packed({"bias": ARRAYS["bias"]}))
    with (
        zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("weight.npy", "w") as stream,
    ):
        stream.write(header.getvalue())
        stream.write(bytes(100_000_000))
    for content in (lie.getvalue(), bomb.getvalue()):
        for forms in ({**FORMS, "weight": (np.float32, (None, None))}, FORMS, None):
            tracemalloc.start()
            try:
                refused(tmp_path, content, forms)
                assert tracemalloc.get_traced_memory()[1] < 20_000_000
            finally:
                tracemalloc.stop()


def test_other_members_than_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as members:
        members.writestr("readme", "hello")
    with pytest.raises(UserError, match=r"a\.npz: not a file of plain arrays \(EOF: reading magic string"):
        storage.read_arrays(str(tmp_path / "a.npz"))
    with pytest.raises(UserError, match="cannot be read"):
        storage.read_arrays(str(tmp_path))
