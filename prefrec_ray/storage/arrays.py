"""Arrays by name in a file: npz, stored as they are and read without pickle, so that no file runs code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.storage.files import read_bytes, write_bytes


def write_arrays(uri: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes `arrays`, none of them of objects, to the file `uri`."""
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    write_bytes(uri, packed.getvalue())


def read_arrays(uri: str) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote.

    Raises `UserError`: no such file, a damaged one, arrays of objects, and compressed ones (of which a small file may
    hold more than fits into memory).
    """
    packed = io.BytesIO(read_bytes(uri))
    try:
        with zipfile.ZipFile(packed) as members:
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
                raise ValueError("its arrays are compressed")
        with np.load(packed, allow_pickle=False) as arrays:
            found = dict(arrays)
        if other := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"'{other[0]}' is none")
        return found
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, NotImplementedError, MemoryError) as error:
        raise UserError(f"{uri}: not a file of plain arrays ({str(error).partition(chr(10))[0]})") from error
