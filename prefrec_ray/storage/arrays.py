"""Named arrays in a file, safetensors or uncompressed npz by its ending, without pickle: a file cannot run code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, TypeAlias

import numpy as np
from numpy.lib import format as npy
from safetensors import numpy as safetensors

from prefrec_ray.errors import UserError
from prefrec_ray.storage.files import read_bytes, write_bytes, writing

#: Expected form of an array: its type, and the lengths of its axes (None: any).
Form: TypeAlias = tuple[type[np.generic], tuple[int | None, ...]]

SAFETENSORS = ".safetensors"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class SlicedArray:
    """An array of this type and shape, as consecutive slices of its first axis; each is valid until the next one."""

    dtype: np.dtype
    shape: tuple[int, ...]
    slices: Iterable[np.ndarray]

    def whole(self) -> np.ndarray:
        """Return the array in memory."""
        return np.concatenate([np.zeros((0, *self.shape[1:]), self.dtype), *(one.copy() for one in self.slices)])


def write_arrays(uri: str, arrays: Mapping[str, np.ndarray | SlicedArray]) -> None:
    """Write `arrays` of numbers, in npz also of texts, to the file `uri`. Equal arrays give equal bytes.

    Slices of an npz on a local disk are written one by one, without the whole array in memory.
    """
    if uri.endswith(SAFETENSORS):
        # Its writer takes the memory of an array as it is, also in the order of columns.
        plain = {name: one.whole() if isinstance(one, SlicedArray) else one for name, one in arrays.items()}
        write_bytes(uri, safetensors.save({name: np.asarray(array, order="C") for name, array in plain.items()}))
        return
    with writing(uri) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                if isinstance(array, SlicedArray):
                    _write_slices(member, array)
                else:
                    npy.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_arrays(uri: str, forms: Mapping[str, Form] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a file by `write_arrays`: exactly the names in `forms`, in their order (None: all arrays).

    Headers are compared with `forms` and with the size of the file before anything is unpacked, so that a file takes at
    most twice its size in memory. Raises `UserError` for a missing or damaged file, for arrays of objects, compressed
    arrays, and other arrays than in `forms`.
    """
    content = read_bytes(uri)
    try:
        if uri.endswith(SAFETENSORS):
            arrays = safetensors.load(content)
            wanted = _wanted(uri, arrays, forms)
            for name, form in wanted.items():
                _check_form(uri, name, arrays[name].shape, arrays[name].dtype, form)
            return {name: arrays[name] for name in wanted}
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            wanted = _wanted(uri, members, forms)
            return {name: _read(uri, name, archive, members[name], form) for name, form in wanted.items()}
    except UserError:
        raise
    except Exception as error:  # zipfile and numpy raise many types of errors for damaged files
        raise UserError(f"{uri}: not a file of plain arrays ({(str(error) or repr(error)).splitlines()[0]})") from error


def _write_slices(file: IO[bytes], array: SlicedArray) -> None:
    described = {"descr": npy.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    npy.write_array_header_1_0(file, described)
    for one in array.slices:
        file.write(one.data.cast("B") if one.size else b"")


def _wanted(
    uri: str, found: Mapping[str, object], forms: Mapping[str, Form] | None
) -> Mapping[str, Form] | dict[str, None]:
    """Return the forms of the arrays to read. Raises `UserError` if the file has other arrays."""
    if forms is None:
        return dict.fromkeys(found)
    for what, names in (("missing", forms.keys() - found), ("not expected", found.keys() - forms)):
        if names:
            raise UserError(f"{uri}: arrays {', '.join(map(ascii, sorted(names)))} are {what}")
    return forms


def _read(uri: str, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, form: Form | None) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED:  # a small file may unpack to more than the memory
        raise ValueError("its arrays are compressed")
    with archive.open(member) as stream:
        shape, by_column, dtype = _HEADERS[npy.read_magic(stream)](stream)
        _check_form(uri, name, shape, dtype, form)
        if dtype.hasobject:
            raise ValueError(f"'{name}' holds objects")
        numbers = bytearray(stream.read())
    return np.ndarray(shape, dtype, numbers, order="F" if by_column else "C")  # raises if bytes are missing


def _check_form(uri: str, name: str, shape: tuple[int, ...], dtype: np.dtype, form: Form | None) -> None:
    """Raise `UserError` for an array of another form."""
    expected_type, lengths = form or (dtype, shape)
    fits = dtype == np.dtype(expected_type) and len(shape) == len(lengths)
    if not fits or any(expected not in (there, None) for there, expected in zip(shape, lengths, strict=True)):
        expected = ", ".join("any" if length is None else str(length) for length in lengths)
        kind = np.dtype(expected_type)
        raise UserError(f"{uri}: array '{name}' is {dtype} of shape {list(shape)}; expected {kind} of [{expected}]")
