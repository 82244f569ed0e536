"""Input files at a path, which is a file, a folder or a glob."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import pyarrow as pa
from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.errors import UserError

_PARQUET = (".parquet", ".pq")
COMPRESSED = (".gz", ".bz2", ".zst")
_CSV = tuple(kind + compression for kind in (".csv", ".tsv") for compression in ("", *COMPRESSED))


def list_inputs(path: str | Sequence[str]) -> list[str]:
    """Return the Parquet and CSV files at `path`, each once: a list in its order, folders and globs sorted by name.

    In a folder, and below folders that match a glob, files are chosen by their suffix, and names that start with `.` or
    `_` are skipped. A file that is found several times is listed once: by its own path if that was found, else
    by the first link. Raises `UserError` for a path without a file.
    """
    paths = [path] if isinstance(path, str) else path
    if not all(one.strip() for one in paths):
        raise UserError("path: found an empty path; expected a file, a folder or a glob (. is this folder)")
    files = list(dict.fromkeys(file for path in paths for file in _files_at(path)))
    targets = {file: file if "://" in file else os.path.realpath(file) for file in files}
    first = {target: file for file, target in reversed(targets.items())}
    return [file for file, target in targets.items() if file == (target if target in targets else first[target])]


def is_csv(file: str) -> bool:
    """Return True for a CSV file, that is for every file without the suffix of Parquet."""
    return not file.endswith(_PARQUET)


def _files_at(path: str) -> list[str]:
    uri = storage.absolute(path)
    wild = re.search(r"[*\[]" if "://" in uri else r"[*?\[]", uri)
    if wild and ("://" in uri or not storage.exists(uri)):
        root = uri[: wild.start()].rpartition("/")[0]
        parts = uri[len(root) + 1 :].split("/")
        files = [
            file
            for file in _walk(root or "/")
            for names in [file[len(root) + 1 :].split("/")]
            if _matches(names, parts) or (_is_data(file) and _matches(names, [*parts, "**"]))
        ]
        if not files:
            raise UserError(f"{path}: no file matches")
        return files
    system, inside = storage.filesystem(uri)
    kind = system.get_file_info(inside).type
    if kind == fs.FileType.NotFound:
        raise UserError(f"{path}: no such file or folder")
    if kind == fs.FileType.File:
        return [uri]
    files = [file for file in _walk(uri.rstrip("/")) if _is_data(file)]
    if not files:
        raise UserError(f"{path}: no Parquet or CSV files ({', '.join((*_PARQUET, '.csv', '.tsv'))}, .csv.gz ..)")
    return files


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Return True if the folders and the file in `names` match the `parts` of a glob; `**` stands for any folders."""
    if not parts or parts[0] == "**":
        return not names if not parts else any(_matches(names[n:], parts[1:]) for n in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _matches(names[1:], parts[1:])


def _walk(uri: str) -> list[str]:
    """Return all files below the folder `uri` except hidden ones, sorted by name; none if it does not exist."""
    system, root = storage.filesystem(uri)
    if isinstance(system, fs.LocalFileSystem):
        paths = list(_walk_disk(root, ()))
    else:
        infos = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        paths = [info.path for info in infos if info.type == fs.FileType.File]
    inside = [path[len(root.rstrip("/")) + 1 :] for path in paths]
    return sorted(storage.join(uri, path) for path in inside if not re.search(r"(^|/)[._]", path))


def _walk_disk(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yield all files below a folder; a link to a folder above itself is skipped."""
    here = os.path.realpath(folder)
    if here in above or not os.path.isdir(here):
        return
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _walk_disk(entry.path, (*above, here))
        elif entry.is_file() or not os.path.exists(entry.path):  # a broken link is an error when it is read
            yield entry.path


def _is_data(file: str) -> bool:
    return file.endswith(_PARQUET + _CSV)


@contextmanager
def readable(file: str) -> Iterator[None]:
    """Turn pyarrow's errors for an unreadable file into a `UserError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        kind = "CSV" if is_csv(file) else "Parquet"
        raise UserError(f"{file}: not readable as {kind} ({str(error).splitlines()[0]})") from error
