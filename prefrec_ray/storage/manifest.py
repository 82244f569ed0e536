"""Manifests: a file with the size and checksum of every other file in a folder, and with its own checksum."""

from __future__ import annotations

import json
import zlib
from typing import Any

from pyarrow import fs

from prefrec_ray.errors import UserError
from prefrec_ray.storage import files

MANIFEST = "manifest.json"


def seal(folder: str) -> None:
    """Write the manifest of all files in a folder and below it."""
    system, path = files.filesystem(folder)
    infos = system.get_file_info(fs.FileSelector(path, recursive=True))
    names = sorted(info.path.removeprefix(f"{path}/") for info in infos if info.type == fs.FileType.File)
    named = {name: _fingerprint(system, f"{path}/{name}") for name in names if name != MANIFEST}
    files.write_text(files.join(folder, MANIFEST), _text(named))


def is_sealed(folder: str) -> bool:
    """Return True if a folder has a manifest."""
    return files.exists(files.join(folder, MANIFEST))


def damage(folder: str) -> str | None:
    """Return the damage of a sealed folder in a few words, None if it is intact."""
    try:
        text = files.read_text(files.join(folder, MANIFEST))
        manifest: Any = files.parse_json(text, MANIFEST)
    except UserError:
        return f"no readable {MANIFEST}"
    named = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(named, dict) or text != _text(named):
        return f"{MANIFEST} was changed after it was written"
    system, path = files.filesystem(folder)
    for info in system.get_file_info(fs.FileSelector(path, recursive=True)):
        if info.type == fs.FileType.Unknown:  # reading a pipe would never end
            return f"{info.path.removeprefix(f'{path}/')} is not a regular file"
    for name, expected in named.items():
        system, path = files.filesystem(files.join(folder, name))
        if system.get_file_info(path).type != fs.FileType.File:
            return f"{name} is missing"
        if _fingerprint(system, path) != expected:
            return f"{name} was changed after it was written"
    return None


def _text(named: dict[str, Any]) -> str:
    checksum = zlib.crc32(json.dumps(named, sort_keys=True).encode())
    return json.dumps({"files": named, "checksum": checksum}, indent=2) + "\n"


def _fingerprint(system: fs.FileSystem, path: str) -> list[int]:
    """Return the size of a file in bytes, and its CRC-32."""
    size = checksum = 0
    with system.open_input_stream(path) as stream:
        while block := stream.read(1 << 20):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]
