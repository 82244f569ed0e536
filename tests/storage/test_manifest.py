"""A sealed folder: any flipped bit in its files or its manifest is detected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefrec_ray.storage.checksums import MANIFEST, damage, seal


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a").write_text("one")
    (tmp_path / "b").write_text("two")
    (tmp_path / "c.gz").write_text("not compressed")
    seal(str(tmp_path))
    return tmp_path


def test_whole_and_sealed_again(sealed: Path) -> None:
    assert damage(str(sealed)) is None
    (sealed / "more").write_text("three")
    seal(str(sealed))
    assert damage(str(sealed)) is None


def test_every_flipped_bit_of_the_manifest(sealed: Path) -> None:
    file = sealed / MANIFEST
    whole = file.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        assert damage(str(sealed)) is not None


@pytest.mark.parametrize("text", ["", "[]", "3", '{"files": 3}', '{"checksum": 0}', '{"files": {"b": 3}}', "null"])
def test_other_json_is_no_manifest(sealed: Path, text: str) -> None:
    (sealed / MANIFEST).write_text(text)
    assert MANIFEST in (damage(str(sealed)) or "")


def test_the_files(sealed: Path) -> None:
    (sealed / "deep/a").write_text("two")
    assert damage(str(sealed)) == "deep/a was changed after it was written"
    (sealed / "deep/a").unlink()
    assert damage(str(sealed)) == "deep/a is missing"
    os.mkfifo(sealed / "deep/b")  # which a library that loads the folder might open, and wait
    assert damage(str(sealed)) == "deep/b is not a regular file"
    (sealed / MANIFEST).unlink()
    assert damage(str(sealed)) == f"no readable {MANIFEST}"
