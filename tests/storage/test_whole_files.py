"""A file is replaced by one that is on the disk, or stays as it is."""

import errno
import os
from pathlib import Path

import pytest

from prefrec_ray import storage


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut the name refers to the old file or to the complete new file."""
    file, fsync, seen = tmp_path / "file", os.fsync, []

    def watched(handle: int) -> None:
        seen.append((Path(os.readlink(f"/proc/self/fd/{handle}")).read_bytes(), file.read_bytes()))
        fsync(handle)

    file.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", watched)
    storage.write_bytes(str(file), b"new")
    assert seen == [(b"new", b"old")]
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    file = tmp_path / "file"
    storage.write_text(str(file), "old")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=os.strerror(number)):
        storage.write_text(str(file), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "old"
