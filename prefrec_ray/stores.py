"""Object stores as pyarrow filesystems: no folders, patient with a server that is busy."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyarrow import fs

#: Attempts of a request, with pauses that double: rides out a server that is away for half a minute.
_ATTEMPTS = 10
_MOVES_AT_ONCE = 8


def open_store(uri: str) -> tuple[fs.FileSystem, str]:
    """The store of `uri`, e.g. `s3://bucket/key`, and the path in it. Raises what pyarrow raises."""
    scheme, _, path = uri.partition("://")
    system = _s3(path.split("/")[0]) if scheme == "s3" else None
    if system is None:
        system, path = fs.FileSystem.from_uri(uri)
    if isinstance(system, fs.LocalFileSystem):  # file://
        return system, path
    return fs.PyFileSystem(FlatStore(system)), path.rstrip("/")


def move_objects(system: fs.FileSystem, source: str, target: str, last: str) -> None:
    """Moves all objects below `source` to `target`; `source/last` when all others have arrived."""
    infos = system.get_file_info(fs.FileSelector(source, recursive=True))
    names = [i.path.removeprefix(f"{source}/") for i in infos if i.type == fs.FileType.File]

    def move(name: str) -> None:
        system.move(f"{source}/{name}", f"{target}/{name}")

    with ThreadPoolExecutor(_MOVES_AT_ONCE) as pool:
        list(pool.map(move, (name for name in names if name != last)))
    move(last)


class FlatStore(fs.FileSystemHandler):
    """A store in which a folder is only the common beginning of some keys: none is made, and none needs to be.

    pyarrow itself would write an empty object for each, which some S3 servers take for a file of that name.
    """

    def __init__(self, inner: fs.FileSystem) -> None:
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FlatStore) and self.inner == other.inner

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing to do."""

    def delete_dir(self, path: str) -> None:
        """Deletes all objects below `path`."""
        self.delete_dir_contents(path, missing_dir_ok=True)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        """The same: `delete_dir` of pyarrow's stores would leave an empty object for the parent."""
        for info in self.inner.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=missing_dir_ok)):
            if info.type == fs.FileType.File:
                self.inner.delete_file(info.path)

    def delete_root_dir_contents(self) -> None:
        """Not for a whole store."""
        raise NotImplementedError

    def get_type_name(self) -> str:
        """pyarrow's name of the store."""
        return self.inner.type_name

    def get_file_info(self, paths: list[str]) -> Any:
        """As the store says."""
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector: fs.FileSelector) -> Any:
        """As the store says."""
        return self.inner.get_file_info(selector)

    def delete_file(self, path: str) -> None:
        """Deletes one object."""
        self.inner.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        """Moves one object."""
        self.inner.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        """Copies one object."""
        self.inner.copy_file(src, dest)

    def open_input_stream(self, path: str) -> Any:
        """As the store does."""
        return self.inner.open_input_stream(path, compression=None)

    def open_input_file(self, path: str) -> Any:
        """As the store does."""
        return self.inner.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        """As the store does."""
        return self.inner.open_output_stream(path, compression=None, metadata=metadata)

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        """Stores do not append."""
        return self.inner.open_append_stream(path, compression=None, metadata=metadata)

    def normalize_path(self, path: str) -> str:
        """As the store does."""
        return self.inner.normalize_path(path)


def _s3(bucket: str) -> fs.FileSystem:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if "AWS_ENDPOINT_URL" in os.environ else fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(region=region, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS))
