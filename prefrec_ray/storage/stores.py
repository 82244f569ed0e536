"""Object stores as pyarrow filesystems, with retries for a busy server, and moves of objects in order."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyarrow import fs

#: Attempts per HTTP request. The pauses double, so a server may be unreachable for half a minute.
_ATTEMPTS = 10
_MOVES_AT_ONCE = 8


def open_store(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the store of `uri`, e.g. `s3://bucket/key`, and the path in it. Raises pyarrow's errors."""
    scheme, _, path = uri.partition("://")
    if scheme == "s3":
        return _s3(path.split("/")[0]), path.rstrip("/")
    return fs.FileSystem.from_uri(uri)


def move_objects(system: fs.FileSystem, source: str, target: str, last: str) -> None:
    """Move all objects below `source` to `target`; `source/last` after all others have arrived."""
    infos = system.get_file_info(fs.FileSelector(source, recursive=True))
    names = [i.path.removeprefix(f"{source}/") for i in infos if i.type == fs.FileType.File]

    def copy(name: str) -> None:
        system.copy_file(f"{source}/{name}", f"{target}/{name}")

    with ThreadPoolExecutor(_MOVES_AT_ONCE) as pool:
        list(pool.map(copy, (name for name in names if name != last)))
    copy(last)
    system.delete_dir(source)


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
