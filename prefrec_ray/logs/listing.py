"""Input files of a path: a file, a folder and all below it, a glob, or a list of these; local or a URI."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.errors import UserError

_PARQUET = (".parquet", ".pq")
_CSV = tuple(kind + compression for kind in (".csv", ".tsv") for compression in ("", ".gz", ".bz2", ".zst"))
_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def list_inputs(path: str | Sequence[str]) -> list[str]:
    """Return the Parquet and CSV files at `path`, each once: a list in its order, folders and globs sorted by name.

    In a folder, and below folders that match a glob, files are chosen by their suffix, and names that start with `.` or
    `_` are skipped. If several links lead to one file, the file itself is listed, or else the first link. Raises
    `UserError` for a path without a file.
    """
    paths = [path] if isinstance(path, str) else path
    if not all(one.strip() for one in paths):
        raise UserError("path: found an empty path; expected a file, a folder or a glob (. is this folder)")
    files = list(dict.fromkeys(file for path in paths for file in _files_at(path)))
    by_target: dict[str, str] = {}
    for file in files:
        target = file if "://" in file else os.path.realpath(file)
        if target not in by_target or file == target:
            by_target[target] = file
    kept = set(by_target.values())
    return [file for file in files if file in kept]


def is_csv(file: str) -> bool:
    """Return True for a CSV file, that is for every file without the suffix of Parquet."""
    return not file.endswith(_PARQUET)


def partition_values(file: str) -> dict[str, str | None]:
    """Return the values of Hive partitions in a path (`.../day=2025-01-31/part-0.parquet`), by column."""
    pairs = [folder.partition("=") for folder in file.split("/")[:-1] if "=" in folder]
    return {unquote(name): None if value == _NO_VALUE else unquote(value) for name, _, value in pairs}


def _files_at(path: str) -> list[str]:
    uri = storage.absolute(path)
    wild = re.search(r"[*\[]" if "://" in uri else r"[*?\[]", uri)
    if wild and ("://" in uri or not storage.exists(uri)):
        root = uri[: wild.start()].rpartition("/")[0]
        try:
            pattern = _pattern(uri)
        except re.error as error:
            raise UserError(f"{path}: not a pattern ({error.msg}); expected brackets like [ab] or [a-z]") from error
        below = re.compile(pattern.pattern + "/.*")
        walked = _walk(root or "/")
        files = [file for file in walked if pattern.fullmatch(file) or (_is_data(file) and below.match(file))]
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


def _walk(uri: str) -> list[str]:
    """Return all files below the folder `uri`, sorted by name; an empty list if the folder does not exist."""
    system, root = storage.filesystem(uri)
    if isinstance(system, fs.LocalFileSystem):
        paths = list(_walk_disk(root, ()))
    else:
        infos = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        paths = [info.path for info in infos if info.type == fs.FileType.File]
    inside = [path[len(root.rstrip("/")) + 1 :] for path in paths]
    return sorted(storage.join(uri, path) for path in inside if not re.search(r"(^|/)[._]", path))


def _walk_disk(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yield all files below a folder except hidden ones; a link to a folder above itself is skipped."""
    here = os.path.realpath(folder)
    if here in above or not os.path.isdir(here):
        return
    for entry in os.scandir(folder):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            yield from _walk_disk(entry.path, (*above, here))
        elif entry.is_file():
            yield entry.path


def _is_data(file: str) -> bool:
    return file.endswith(_PARQUET + _CSV)


def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    return re.compile("".join(_WILDCARDS.get(part) or _escape(part) for part in parts))


def _escape(part: str) -> str:
    if part.startswith("[") and part.endswith("]"):
        inside = re.sub(r"[\\\[&~|]", r"\\\g<0>", part[1:-1])  # characters without a special meaning in a glob
        return f"[{re.sub('^!', '^', inside)}]"
    return re.escape(part)
