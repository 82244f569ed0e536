"""Named arrays in a file, safetensors or uncompressed npz by its ending, without pickle: a file cannot run code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.lib import format as npy
from safetensors import numpy as safetensors

from prefrec_ray.errors import UserError
from prefrec_ray.storage.files import read_bytes, write_bytes

#: Expected form of an array: its type, and the lengths of its axes (None: any).
Form: TypeAlias = tuple[type[np.generic], tuple[int | None, ...]]

SAFETENSORS = ".safetensors"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def write_arrays(uri: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` of numbers, in npz also of texts, to the file `uri`. Equal arrays give equal bytes."""
    if uri.endswith(SAFETENSORS):
        # Its writer takes the memory of an array as it is, also in the order of columns.
        write_bytes(uri, safetensors.save({name: np.asarray(array, order="C") for name, array in arrays.items()}))
        return
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    write_bytes(uri, packed.getvalue())


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
