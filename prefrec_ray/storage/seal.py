"""Checksums inside the bytes that they cover, for any format that can contain a text: Arrow messages, Parquet, JSON.

A seal is `seal:`, then the number of bytes and their CRC-32, eight hexadecimal digits each. The CRC-32 is computed with
its own digits replaced by zeros.
"""

from __future__ import annotations

import re
import zlib

#: Placeholder for the seal.
BLANK = "seal:0000000000000000"
_PREFIX, _DIGITS = b"seal:", re.compile(rb"[0-9a-f]{16}")
_Bytes = bytes | memoryview


def fill(content: bytes) -> bytes:
    """Return `content` with the last `BLANK` in it replaced by its seal."""
    place = content.rindex(BLANK.encode()) + len(_PREFIX)
    content = content[:place] + f"{len(content):08x}{0:08x}".encode() + content[place + 16 :]
    return content[: place + 8] + f"{_checksum(content, place):08x}".encode() + content[place + 16 :]


def intact(content: _Bytes) -> bool | None:
    """Return True if the last seal in `content` matches the whole content, None without a seal."""
    place = bytes(content).rfind(_PREFIX) + len(_PREFIX)
    if place < len(_PREFIX):
        return None
    return sealed_length(bytes(content[place : place + 16])) == len(content) and matches(content, place)


def find(content: bytes) -> int | None:
    """Return the position of the digits of the first seal in `content`, None without a seal."""
    place = content.find(_PREFIX) + len(_PREFIX)
    return place if place >= len(_PREFIX) and _DIGITS.match(content, place) else None


def sealed_length(digits: bytes) -> int | None:
    """Return the number of bytes that a seal with these digits covers, None if the digits are invalid."""
    return int(digits[:8], 16) if _DIGITS.fullmatch(digits) else None


def matches(content: _Bytes, place: int) -> bool:
    """Return True if the seal with digits from `place` on is the seal of `content`."""
    return bytes(content[place + 8 : place + 16]) == f"{_checksum(content, place):08x}".encode()


def _checksum(content: _Bytes, place: int) -> int:
    before = zlib.crc32(content[: place + 8])
    return zlib.crc32(content[place + 16 :], zlib.crc32(b"0" * 8, before))
