"""A seal inside the bytes that it covers: each flipped bit breaks it."""

import json
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.errors import UserError
from prefrec_ray.storage import checksums
from prefrec_ray.storage.parquet import read_sealed, seal_parquet


def test_a_seal_is_the_length_and_the_checksum_of_all_bytes_around_it() -> None:
    content = checksums.fill(b'{"a": 1, "seal": "seal:0000000000000000"}')
    assert len(content) == 41 == 0x29
    zeros = b'{"a": 1, "seal": "seal:0000002900000000"}'
    assert content == b'{"a": 1, "seal": "seal:00000029' + f"{zlib.crc32(zeros):08x}".encode() + b'"}'
    assert checksums.intact(content) is True
    assert json.loads(content)["a"] == 1


@given(st.binary(max_size=60), st.binary(max_size=60), st.data())
def test_a_flipped_bit_or_a_missing_byte_breaks_it(before: bytes, after: bytes, data: st.DataObject) -> None:
    if b"seal:" in after:
        return
    content = checksums.fill(before + checksums.BLANK.encode() + after)
    assert checksums.intact(content) is True
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]
    assert not checksums.intact(flipped)
    assert not checksums.intact(content[:-1])
    assert not checksums.intact(content[1:])


def test_bytes_without_a_seal() -> None:
    assert not any(checksums.intact(content) for content in (b"", b"seal", b"seal:"))
    assert (checksums.sealed_length(b"seal:xyz", 8), checksums.sealed_length(b"seal", 4)) == (None, None)


def test_a_seal_in_the_head_covers_its_own_bytes() -> None:
    content = checksums.fill(b"head " + checksums.BLANK.encode() + b" body")
    assert checksums.sealed_length(content + b"the next message", 26) == len(content)
    assert checksums.sealed_length(content[:-1], 26) is None
    assert checksums.sealed_length(content, 4) is None


def test_a_sealed_table_is_plain_parquet_and_no_flipped_bit_changes_it(tmp_path: Path) -> None:
    table = pa.table({"item_id": [1, 2], "text": ["x", "y"]})
    file = tmp_path / "items.parquet"
    whole = seal_parquet(table)
    file.write_bytes(whole)
    assert pq.read_table(file).equals(table)
    assert read_sealed(str(file)).equals(table)
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(UserError, match=rf"^{file}: damaged: its checksum differs"):
            read_sealed(str(file))


def test_a_table_may_hold_what_looks_like_a_seal(tmp_path: Path) -> None:
    table = pa.table({"text": [f"seal:{'0' * 16}", "seal:0123456789abcdef"]})
    table = table.replace_schema_metadata({"name": "navy seal: a memoir"})
    (tmp_path / "items.parquet").write_bytes(seal_parquet(table, compression="none"))
    assert read_sealed(str(tmp_path / "items.parquet")).equals(table)
