"""Checksums: seals inside the bytes that they cover, and manifests of folders.

A seal is for any format that can contain a text: Arrow messages, Parquet, JSON. It is `seal:`, then the number of bytes
and their CRC-32, eight hexadecimal digits each. The CRC-32 is computed with its own digits replaced by zeros.

A manifest is a file with the size and checksum of every other file in a folder, and with its own checksum.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from typing import Any

from pyarrow import fs

from prefrec_ray.errors import UserError
from prefrec_ray.storage import files

MANIFEST = "manifest.json"
#: Placeholder for a seal.
BLANK = "seal:0000000000000000"
_PREFIX, _DIGITS = b"seal:", re.compile(rb"[0-9a-f]{16}")
_Bytes = bytes | memoryview


def seal(folder: str) -> None:
    """Write the manifest of all files in a folder and below it."""
    system, path = files.filesystem(folder)
    infos = system.get_file_info(fs.FileSelector(path, recursive=True))
    names = sorted(info.path.removeprefix(f"{path}/") for info in infos if info.type == fs.FileType.File)
    named = {name: _fingerprint(system, f"{path}/{name}") for name in names if name != MANIFEST}
    files.write_text(files.join(folder, MANIFEST), _text(named))


def damage(folder: str, needed: Iterable[str] = ()) -> str | None:
    """Return the damage of a sealed folder in a few words, None if it is intact. Its manifest must list `needed`."""
    try:
        text = files.read_text(files.join(folder, MANIFEST))
        manifest: Any = files.parse_json(text, MANIFEST)
    except UserError:
        return f"no readable {MANIFEST}"
    named = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(named, dict) or text != _text(named):
        return f"{MANIFEST} was changed after it was written"
    if unlisted := [name for name in needed if name not in named]:
        return f"{MANIFEST} does not list {unlisted[0]}"
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
    with system.open_input_stream(path, compression=None) as stream:
        while block := stream.read(1 << 20):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]


def fill(content: bytes, head: int | None = None) -> bytes:
    """Return `content` with a `BLANK` replaced by its seal.

    The first one in `content[:head]`, which contains no other text; without `head`, the last one, of a format that has
    no other text behind its blank.
    """
    blank = BLANK.encode()
    place = (content.rindex(blank) if head is None else content.index(blank, 0, head)) + len(_PREFIX)
    content = content[:place] + f"{len(content):08x}{0:08x}".encode() + content[place + 16 :]
    return content[: place + 8] + _checksum(content, place) + content[place + 16 :]


def intact(content: _Bytes) -> bool:
    """Return True if the last seal in `content` that covers as many bytes matches the whole content."""
    size = f"{len(content):08x}".encode()  # another text of the content may contain `seal:`
    place = bytes(content).rfind(_PREFIX + size)
    return place >= 0 and covered(content, place) == len(content)


def seal_json(value: dict[str, Any], indent: int | None = None, end: str = "") -> str:
    """Return `value` as JSON with the additional, last key `seal`, and `end`."""
    text = json.dumps({**value, "seal": BLANK}, indent=indent, allow_nan=False) + end
    return fill(text.encode()).decode()


def open_json(text: str, where: str, line: int | None = None) -> Any:
    """Return the value of a text by `seal_json`, or of JSON without a seal, which earlier versions wrote.

    Raises `UserError`, which begins with `where` (and `line`), if it is not JSON or if the seal does not match.
    """
    value = files.parse_json(text, where, line)
    if isinstance(value, dict) and value.pop("seal", None) is not None and not intact(text.encode()):
        place = f"{where}: line {line}" if line else where
        raise UserError(f"{place}: damaged: its checksum differs; expected the text as it was written")
    return value


def sealed_length(content: _Bytes, head: int) -> int | None:
    """Return the bytes that the first seal in `content[:head]` covers; None without a seal that matches them."""
    place = bytes(content[:head]).find(_PREFIX)
    return None if place < 0 else covered(content, place)


def covered(content: _Bytes, place: int) -> int | None:
    """Return the number of bytes that the seal at `place` covers, itself among them; None if it does not match them."""
    digits = bytes(content[place + len(_PREFIX) :][:16])
    if not _DIGITS.fullmatch(digits):
        return None
    length = int(digits[:8], 16)
    if not place + len(BLANK) <= length <= len(content):
        return None
    return length if digits[8:] == _checksum(content[:length], place + len(_PREFIX)) else None


def _checksum(content: _Bytes, place: int) -> bytes:
    """Return the digits of the CRC-32 of `content`, whose seal has its digits from `place` on."""
    before = zlib.crc32(content[: place + 8])
    return f"{zlib.crc32(content[place + 16 :], zlib.crc32(b'0' * 8, before)):08x}".encode()
