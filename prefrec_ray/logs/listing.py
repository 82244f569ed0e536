"""Which files a path means: a file, a folder and all below it, a glob, or a list of them; local or by URI."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.errors import UserError

_PARQUET = (".parquet", ".pq")
_CSV = tuple(kind + packed for kind in (".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".zst"))
_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def list_inputs(path: str | Sequence[str]) -> list[str]:
    """The Parquet and CSV files at `path`, each once: a list in its order, the rest by name.

    In a folder, and below folders that a glob matches, files count by their ending, and names that begin with `.` or
    `_` never do. Of several links to one file the first counts, or the file itself. Raises `UserError` where a path
    leads to no file.
    """
    paths = [path] if isinstance(path, str) else path
    files = list(dict.fromkeys(file for one in paths for file in _files_at(one)))
    once: dict[str, str] = {}
    for file in files:
        target = file if "://" in file else os.path.realpath(file)
        if target not in once or file == target:
            once[target] = file
    kept = set(once.values())
    return [file for file in files if file in kept]


def is_csv(file: str) -> bool:
    """Whether a file is CSV: what is not Parquet by its name."""
    return not file.endswith(_PARQUET)


def partition_values(file: str) -> dict[str, str | None]:
    """What the folders of a Hive-partitioned data set say (`.../day=2025-01-31/part-0.parquet`), column by column."""
    pairs = [folder.partition("=") for folder in file.split("/")[:-1] if "=" in folder]
    return {unquote(name): None if value == _NO_VALUE else unquote(value) for name, _, value in pairs}


def _files_at(path: str) -> list[str]:
    uri = storage.absolute(path)
    wild = re.search(r"[*\[]" if "://" in uri else r"[*?\[]", uri)
    if wild and ("://" in uri or not storage.exists(uri)):
        root = uri[: wild.start()].rpartition("/")[0]
        pattern = _pattern(uri)
        below = re.compile(pattern.pattern + "/.*")
        files = [file for file in _walk(root or "/") if pattern.fullmatch(file) or (_known(file) and below.match(file))]
        if not files:
            raise UserError(f"{path}: no file matches")
        return files
    system, inside = storage.filesystem(uri)
    kind = system.get_file_info(inside).type
    if kind == fs.FileType.NotFound:
        raise UserError(f"{path}: no such file or folder")
    if kind == fs.FileType.File:
        return [uri]
    files = [file for file in _walk(uri.rstrip("/")) if _known(file)]
    if not files:
        raise UserError(f"{path}: no Parquet or CSV files ({', '.join((*_PARQUET, '.csv', '.tsv'))}, .csv.gz ..)")
    return files


def _walk(uri: str) -> list[str]:
    """All files below the folder `uri`, by name; none where there is no folder."""
    system, root = storage.filesystem(uri)
    if isinstance(system, fs.LocalFileSystem):
        paths = list(_walk_disk(root, ()))
    else:
        infos = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        paths = [info.path for info in infos if info.type == fs.FileType.File]
    inside = [path[len(root.rstrip("/")) + 1 :] for path in paths]
    return sorted(storage.join(uri, path) for path in inside if not re.search(r"(^|/)[._]", path))


def _walk_disk(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    """All files below a folder but hidden ones; a link to one of the folders that it lies in is passed over."""
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


def _known(file: str) -> bool:
    return file.endswith(_PARQUET + _CSV)


def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    return re.compile("".join(_WILDCARDS.get(part) or _letters(part) for part in parts))


def _letters(part: str) -> str:
    if part.startswith("[") and part.endswith("]"):
        return part.replace("[!", "[^", 1)
    return re.escape(part)
