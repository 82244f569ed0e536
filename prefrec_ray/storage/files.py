"""Access to files by path or URI, through the filesystems of pyarrow: local, `s3://`, `gs://` and `hf://`.

Credentials and the endpoint of another S3 server come only from the environment (AWS_ACCESS_KEY_ID,
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
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import fs

from prefrec_ray import memory
from prefrec_ray.errors import UserError, need

#: Attempts per HTTP request to S3. The pauses double, so a server may be unreachable for half a minute.
_ATTEMPTS = 10
#: Bytes of memory per byte of JSON: `{},` is a dictionary of 64 bytes, and a pointer to it.
_JSON_GROWTH = 24.0
#: Permissions of new files on a local disk, before the umask.
_mode: ContextVar[int] = ContextVar("_mode", default=0o666)


@contextmanager
def private() -> Iterator[None]:
    """Make files that this module writes to a local disk readable only by their owner, within the block."""
    token = _mode.set(0o600)
    try:
        yield
    finally:
        _mode.reset(token)


def filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the filesystem of `uri` and the path inside it. Raises `UserError` if it cannot be opened."""
    text = str(uri)
    if not text or "\0" in text:
        raise UserError(f"{text!r}: found {'a NUL' if text else 'an empty text'}; expected a path or URI")
    if "://" not in text:
        try:
            return fs.LocalFileSystem(), str(Path(text).expanduser().absolute())
        except RuntimeError as error:
            raise UserError(f"{text}: found no user {text.split('/')[0]}; expected a path") from error
    if "?" in text:
        raise UserError(f"{text}: found '?'; expected a URI without it (AWS_ENDPOINT_URL sets the endpoint of S3)")
    scheme, _, path = text.partition("://")
    if scheme == "hf":
        return _hub(text), path.rstrip("/")
    try:
        return (_s3(path.split("/")[0]), path.rstrip("/")) if scheme == "s3" else fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        raise UserError(f"{text}: not a path or URI that pyarrow opens ({str(error).splitlines()[0]})") from error


class _S3(fs.S3FileSystem):
    """S3 filesystem that is opened again when it is unpickled, with the environment of the worker process."""

    bucket: str

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _s3, (self.bucket,)


def _s3(bucket: str) -> fs.FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        # Servers other than Amazon's may not support the checksums that this client adds by default.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    if region is None:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
    system = _S3(
        region=region,
        endpoint_override=endpoint,
        scheme="http" if endpoint and endpoint.startswith("http://") else "https",
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
    system.bucket = bucket
    return system


def _hub(uri: str) -> fs.FileSystem:
    """Return the Hugging Face Hub as a filesystem; HF_TOKEN and HF_ENDPOINT are its settings."""
    need("hub", "huggingface_hub", where=uri)
    from huggingface_hub import HfFileSystem

    return fs.PyFileSystem(
        fs.FSSpecHandler(HfFileSystem(endpoint=os.environ.get("HF_ENDPOINT"), use_listings_cache=False))
    )


def absolute(uri: str) -> str:
    """Return `uri` in a form that workers in other folders can use: a local path becomes absolute."""
    return str(uri) if "://" in str(uri) else filesystem(uri)[1]


def join(uri: str, *parts: str) -> str:
    """Return `uri` with `parts` below it."""
    return "/".join([str(uri).rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """Return True if a file or folder exists at `uri`."""
    system, path = filesystem(uri)
    return system.get_file_info(path).type != fs.FileType.NotFound


def list_files(uri: str, suffix: str = "") -> list[str]:
    """Return the URIs of the files directly inside the folder `uri` whose names end in `suffix`, sorted by name."""
    return sorted(join(uri, one.base_name) for one in _files(uri) if one.base_name.endswith(suffix))


def list_folders(uri: str) -> list[str]:
    """Return the URIs of the folders directly inside the folder `uri`, sorted by name; empty if it does not exist."""
    return sorted(join(uri, one.base_name) for one in _files(uri, fs.FileType.Directory))


def size(uri: str) -> int:
    """Return the number of bytes of the files directly inside the folder `uri`."""
    return sum(one.size for one in _files(uri))


def _files(uri: str, kind: fs.FileType = fs.FileType.File) -> list[fs.FileInfo]:
    system, path = filesystem(uri)
    return [one for one in system.get_file_info(fs.FileSelector(path, allow_not_found=True)) if one.type == kind]


def sync(path: str) -> None:
    """Wait until a local file, or the names in a local folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(uri: str) -> None:
    """Create the folder and its parents, if they do not exist. Raises `UserError` if this is not possible."""
    system, path = filesystem(uri)
    try:
        system.create_dir(path, recursive=True)
    except OSError as error:
        raise UserError(
            f"{uri}: cannot be written ({str(error).splitlines()[0]}); expected a folder to write to"
        ) from error


def make_room(uri: str) -> str:
    """Return `uri`, a file to be written, after creating its folder on a disk. Raises `UserError` if this fails."""
    system, path = filesystem(uri)
    if isinstance(system, fs.LocalFileSystem):
        make_folder(posixpath.dirname(path))
    return uri


def remove(uri: str) -> None:
    """Delete the file or folder at `uri`, if it exists."""
    system, path = filesystem(uri)
    kind = system.get_file_info(path).type
    with suppress(FileNotFoundError):  # another process has deleted it
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
        raise UserError(f"{uri}: found {needed} in memory; expected at most {memory.text(free)}, the free memory")
    return int(info.size)


def read_bytes(uri: str) -> bytes:
    """Return the bytes of the file `uri`; a compressed file stays so. Raises `UserError` if it cannot be read."""
    check_readable(uri)
    system, path = filesystem(uri)
    try:
        with system.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())
    except OSError as error:
        raise UserError(f"{uri}: cannot be read ({str(error).splitlines()[0]})") from error


def read_text(uri: str) -> str:
    """Return the UTF-8 text at `uri`. Raises `UserError` if it cannot be read."""
    try:
        return read_bytes(uri).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{uri}: byte {error.start + 1}: not UTF-8; expected a text in UTF-8") from error


def make_private(folder: str) -> None:
    """Let only the owner open a folder on a local disk. It does nothing in a store, which has its own rights."""
    system, path = filesystem(folder)
    if isinstance(system, fs.LocalFileSystem):
        os.chmod(path, 0o700)


def write_bytes(uri: str, content: bytes) -> None:
    """Write `content` to `uri`; a reader sees the old or the new file. Raises `UserError` if it cannot be written."""
    with writing(uri) as file:
        file.write(content)


@contextmanager
def writing(uri: str) -> Iterator[BinaryIO]:
    """Yield a file whose content is at `uri` when the block succeeds; a reader sees the old or the new file.

    Nothing is left of a block that fails. Raises `UserError` if the file cannot be written.
    """
    system, path = filesystem(uri)
    local = isinstance(system, fs.LocalFileSystem)
    written = f"{path}.{uuid.uuid4().hex[:8]}.partial"
    try:
        if local:
            try:
                handle = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode.get())
            except FileNotFoundError as error:  # its folder was removed
                raise UserError(f"{uri}: cannot be written ({error.strerror}); expected its folder") from error
            with open(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(handle)  # before the rename: after a power cut, some file systems would have an empty file
            system.move(written, path)
        else:  # an object in a store appears when it is whole
            yield (content := io.BytesIO())
            with system.open_output_stream(path) as stream:
                stream.write(content.getbuffer())
    except BaseException as error:  # such as no space left
        if local:
            remove(written)
        if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
            raise UserError(f"{uri}: cannot be written ({str(error).splitlines()[0]})") from error
        raise


def write_text(uri: str, text: str) -> None:
    """Write `text` to `uri`, whole or not at all."""
    write_bytes(uri, text.encode("utf-8"))


def read_json(uri: str) -> Any:
    """Return the JSON value at `uri`. Raises `UserError` if the file is missing or not JSON."""
    check_readable(uri, _JSON_GROWTH)
    return parse_json(read_text(uri), uri)


def read_versioned(uri: str, version: int, hint: str = "") -> dict[str, Any]:
    """Return the JSON object at `uri`. Raises `UserError`, which ends with `hint`, for another `schema_version`."""
    value = read_json(uri)
    found = value.get("schema_version") if isinstance(value, dict) else None
    if found != version:
        raise UserError(f"{uri}: found schema version {found}; expected {version}{hint}")
    return value


def parse_json(text: str, uri: str, line: int | None = None) -> Any:
    """Parse `text`, the file `uri` or one `line` of it, as JSON. Raises `UserError` if it is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{uri}: line {line or error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # too many digits, or too many nested brackets
        place = f"{uri}: line {line}" if line else uri
        raise UserError(f"{place}: not JSON that Python reads ({error})") from error


def write_json(uri: str, value: Any) -> None:
    """Write `value` to `uri` as indented JSON, whole or not at all."""
    write_text(uri, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def write_csv(uri: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows` (at least one) to `uri` under a header, whole or not at all; missing keys give empty fields."""
    text, columns = io.StringIO(), dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(uri, text.getvalue())
