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
    return content[: place + 8] + _checksum(content, place) + content[place + 16 :]


def intact(content: _Bytes) -> bool:
    """Return True if the last seal in `content` matches the whole content."""
    place = bytes(content).rfind(_PREFIX)
    return place >= 0 and _covered(content, place) == len(content)


def sealed_length(content: _Bytes, head: int) -> int | None:
    """Return the bytes that the first seal in `content[:head]` covers; None without a seal that matches them."""
    place = bytes(content[:head]).find(_PREFIX)
    return None if place < 0 else _covered(content, place)


def _covered(content: _Bytes, place: int) -> int | None:
    """Return the number of bytes that the seal at `place` covers, None if it does not match them."""
    digits = bytes(content[place + len(_PREFIX) :][:16])
    if not _DIGITS.fullmatch(digits):
        return None
    length = int(digits[:8], 16)
    matches = len(content) >= length and digits[8:] == _checksum(content[:length], place + len(_PREFIX))
    return length if matches else None


def _checksum(content: _Bytes, place: int) -> bytes:
    """Return the digits of the CRC-32 of `content`, whose seal has its digits from `place` on."""
    before = zlib.crc32(content[: place + 8])
    return f"{zlib.crc32(content[place + 16 :], zlib.crc32(b'0' * 8, before)):08x}".encode()
