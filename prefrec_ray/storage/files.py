"""Paths and URIs: everything that is read or written goes through pyarrow's filesystems, local or `s3://`, `gs://`.

Credentials and the endpoint of another S3 server come from the environment alone (AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION; GOOGLE_APPLICATION_CREDENTIALS).
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from prefrec_ray.errors import UserError
from prefrec_ray.storage import memory
from prefrec_ray.storage.stores import open_store

#: Bytes of memory per byte of JSON: `{},` is a dictionary of 64 bytes, and a pointer to it.
_JSON_GROWTH = 24.0
#: Permissions of new files on a local disk, before the umask.
_mode: ContextVar[int] = ContextVar("_mode", default=0o666)


@contextmanager
def private() -> Iterator[None]:
    """Within the block, files that this module writes on a local disk are readable by their owner only."""
    token = _mode.set(0o600)
    try:
        yield
    finally:
        _mode.reset(token)


def filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of `uri` and the path inside it.

    Raises `UserError` for a scheme that pyarrow does not know, a store that does not answer, a home of nobody, a NUL.
    """
    text = str(uri)
    if "\0" in text:
        raise UserError(f"{text!r}: no path holds a NUL; expected a path or URI")
    if "://" not in text:
        try:
            return fs.LocalFileSystem(), str(Path(text).expanduser().absolute())
        except RuntimeError as error:
            raise UserError(f"{text}: {text.split('/')[0]} is nobody's home; expected a path") from error
    if "?" in text:
        raise UserError(f"{text}: expected no '?'; the endpoint of an S3 server is named by AWS_ENDPOINT_URL")
    try:
        return open_store(text)
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        raise UserError(f"{text}: not a path or URI that pyarrow opens ({str(error).splitlines()[0]})") from error


def absolute(uri: str) -> str:
    """`uri` as workers in other folders find it: a local path becomes absolute."""
    return str(uri) if "://" in str(uri) else filesystem(uri)[1]


def join(uri: str, *parts: str) -> str:
    """`uri` with `parts` below it."""
    return "/".join([str(uri).rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """Whether a file or folder lies at `uri`."""
    system, path = filesystem(uri)
    return system.get_file_info(path).type != fs.FileType.NotFound


def list_files(uri: str, suffix: str = "") -> list[str]:
    """URIs of the files directly inside the folder `uri` whose names end in `suffix`, sorted by name."""
    system, path = filesystem(uri)
    infos = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    names = sorted(i.base_name for i in infos if i.type == fs.FileType.File and i.base_name.endswith(suffix))
    return [join(uri, name) for name in names]


def size(uri: str) -> int:
    """Bytes of the files directly inside the folder `uri`."""
    system, path = filesystem(uri)
    infos = system.get_file_info(fs.FileSelector(path))
    return sum(info.size for info in infos if info.type == fs.FileType.File)


def sync(path: str) -> None:
    """A file, or the names in a folder, of a local disk: they are on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def written(uri: str) -> datetime | None:
    """When the file at `uri` was written last (UTC); None where none is there, or its store does not say."""
    system, path = filesystem(uri)
    moment = system.get_file_info(path).mtime
    return None if moment is None else moment.astimezone(UTC)


def list_folders(uri: str) -> list[str]:
    """URIs of the folders directly inside the folder `uri`, sorted by name; none where it does not exist."""
    system, path = filesystem(uri)
    infos = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(join(uri, info.base_name) for info in infos if info.type == fs.FileType.Directory)


def make_folder(uri: str) -> None:
    """Creates the folder and its parents; nothing happens where it exists, or where a store has no folders.

    Raises `UserError` where that is not allowed, or there is no such bucket.
    """
    system, path = filesystem(uri)
    try:
        system.create_dir(path, recursive=True)
    except OSError as error:
        raise UserError(
            f"{uri}: cannot be written ({str(error).splitlines()[0]}); expected a folder to write to"
        ) from error


def make_room(uri: str) -> str:
    """`uri`, a file that will be written, once the folder for it is there; a store has no folders.

    Raises `UserError` where it cannot be made.
    """
    system, path = filesystem(uri)
    if isinstance(system, fs.LocalFileSystem):
        make_folder(posixpath.dirname(path))
    return uri


def remove(uri: str) -> None:
    """Deletes the file or folder at `uri`, if there is one."""
    system, path = filesystem(uri)
    kind = system.get_file_info(path).type
    with suppress(FileNotFoundError):  # another process was quicker
        if kind == fs.FileType.Directory:
            system.delete_dir(path)
        elif kind == fs.FileType.File:
            system.delete_file(path)


def check_readable(uri: str, growth: float = 1.0) -> int:
    """Return the size of the file `uri`, which becomes `growth` times as large when it is read.

    Raises `UserError` for a missing file, a folder, a pipe or a device, and for a file that does not fit into memory.
    """
    system, path = filesystem(uri)
    try:
        info = system.get_file_info(path)
    except OSError as error:
        raise UserError(f"{uri}: cannot be read ({str(error).splitlines()[0]})") from error
    if info.type == fs.FileType.NotFound:
        raise UserError(f"{uri}: no such file")
    if info.type != fs.FileType.File:
        kind = "a folder" if info.type == fs.FileType.Directory else "a pipe, socket or device"
        raise UserError(f"{uri}: cannot be read (found {kind}; expected a regular file)")
    if growth * info.size > (free := memory.available()):
        needed = memory.text(growth * info.size)
        raise UserError(f"{uri}: found {needed} in memory; expected at most {memory.text(free)}, which are free")
    return int(info.size)


def read_bytes(uri: str) -> bytes:
    """The contents of the file `uri`. Raises `UserError` if it cannot be read."""
    check_readable(uri)
    system, path = filesystem(uri)
    try:
        with system.open_input_stream(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError as error:
        raise UserError(f"{uri}: no such file") from error
    except OSError as error:
        raise UserError(f"{uri}: cannot be read ({str(error).splitlines()[0]})") from error


def read_text(uri: str) -> str:
    """The UTF-8 text at `uri`. Raises `UserError` where there is none."""
    try:
        return read_bytes(uri).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{uri}: byte {error.start + 1} is no UTF-8; expected a text in UTF-8") from error


def write_bytes(uri: str, content: bytes) -> None:
    """Writes `content` to `uri` so that a reader sees the old file or the new one, never a part of it.

    Raises `UserError` where that is not allowed.
    """
    system, path = filesystem(uri)
    local = isinstance(system, fs.LocalFileSystem)
    written = f"{path}.{uuid.uuid4().hex[:8]}.partial" if local else path  # a store shows an object once it is whole
    try:
        if local:
            handle = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode.get())
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)  # first: after a power cut some file systems show the new name with nothing in it
            system.move(written, path)
        else:
            with system.open_output_stream(written) as stream:
                stream.write(content)
    except OSError as error:  # no space left, say
        if local:
            remove(written)
        if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
            raise UserError(f"{uri}: cannot be written ({str(error).splitlines()[0]})") from error
        raise


def write_text(uri: str, text: str) -> None:
    """Writes `text` to `uri`, whole or not at all."""
    write_bytes(uri, text.encode("utf-8"))


def read_json(uri: str) -> Any:
    """The JSON value at `uri`. Raises `UserError` if the file is missing or not JSON."""
    check_readable(uri, _JSON_GROWTH)
    return parse_json(read_text(uri), uri)


def parse_json(text: str, uri: str, line: int | None = None) -> Any:
    """The JSON value of the `text` of the file `uri`, or of one `line` of it. Raises `UserError` where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{uri}: line {line or error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits; brackets in brackets in brackets
        place = f"{uri}: line {line}" if line else uri
        raise UserError(f"{place}: not JSON that Python reads ({error})") from error


def write_json(uri: str, value: Any) -> None:
    """Writes `value` to `uri` as indented JSON, whole or not at all."""
    write_text(uri, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def write_csv(uri: str, rows: Sequence[dict[str, Any]]) -> None:
    """Writes `rows` (at least one) to `uri` under a header, whole or not at all; a key that a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, fieldnames=list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    write_text(uri, text.getvalue())
