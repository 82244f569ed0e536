"""Files: paths, whole writes, and unreadable files, which are reported in one line."""

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.listing import list_inputs
from prefrec_ray.nightly.folder import LoopFolder


def test_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage.write_text("~/a", "x")
    assert (tmp_path / "a").read_text() == "x"
    assert storage.absolute("~/a") == str(tmp_path / "a")


def test_nobodys() -> None:
    with pytest.raises(UserError, match=r"^~no-such-user/runs: found no user ~no-such-user; expected a path$"):
        storage.exists("~no-such-user/runs")


def test_a_path_without_characters() -> None:
    with pytest.raises(UserError, match=r"^'': found an empty text; expected a path or URI$"):
        storage.exists("")


@pytest.mark.parametrize("path", ["a\0b", "s3://a\0b"])
def test_what_no_path_holds(path: str) -> None:
    with pytest.raises(UserError, match=r"a\\x00b': found a NUL; expected a path or URI"):
        storage.read_text(path)


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


def test_a_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    """For example by `rm -r RUN` during the run."""
    with pytest.raises(UserError, match=r"gone/a: cannot be written \(No such file .*\); expected its folder"):
        storage.write_text(str(tmp_path / "gone" / "a"), "x")


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


NOT_JSON = ["", "{", "{'a': 1}", "\ufeff{}", "1" * 5_000, "[" * 100_000, '{"a":' * 100_000]


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"file\.json: .*not JSON") as caught:
        storage.read_json(str(file))
    assert len(str(caught.value).splitlines()) == 1


def test_what_cannot_be_read_is_another_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: no such file$"):
        storage.read_json(str(tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"cannot be read \(found a folder; expected a regular file\)$"):
        storage.read_json(str(tmp_path))
    with (tmp_path / "file.json").open("wb") as sparse:
        sparse.truncate(10**13)  # takes no room on the disk
    with pytest.raises(
        UserError, match=r"file\.json: found 240\.0 TB in memory; expected at most \d.* GB, the free memory$"
    ):
        storage.read_json(str(tmp_path / "file.json"))


@pytest.mark.parametrize("text", [text for text in NOT_JSON if text])
def test_a_line_of_a_loop_too(tmp_path: Path, text: str) -> None:
    loop = LoopFolder(str(tmp_path))
    (tmp_path / "nights.json").write_text(json.dumps({"night": 1, "began": "", "settings": ""}) + f"\n{text}\n")
    with pytest.raises(UserError, match=r"nights\.json: line 2: not JSON"):
        loop.nights()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    storage.write_text(str(tmp_path / "file.gz"), "not compressed")
    assert storage.read_text(str(tmp_path / "file.gz")) == "not compressed"
    value = {"a": [1, 2.5, None, "ö"], "b": {"c": True}}
    storage.write_json(str(tmp_path / "file.json"), value)
    assert storage.read_json(str(tmp_path / "file.json")) == value


def test_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    storage.exchange(f"{tmp_path}/one", f"{tmp_path}/other")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["other"]
    with pytest.raises(UserError, match=r"/none: cannot be replaced in one step \(No such file"):
        storage.exchange(f"{tmp_path}/none", f"{tmp_path}/one")


@pytest.mark.parametrize(
    "uri",
    [
        *("http://127.0.0.1:{}/log.csv", "https://127.0.0.1:{}/log.csv", "ftp://127.0.0.1:{}/log.csv"),
        *("s3://bucket/log.csv?endpoint_override=127.0.0.1:{}&scheme=http", "gs://b/x?endpoint_override=127.0.0.1:{}"),
        *("gopher://127.0.0.1:{}/x", "//127.0.0.1:{}/x.csv"),
    ],
)
def test_a_uri_in_settings_does_not_reach_any_server(uri: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        with pytest.raises(UserError, match=r"^[^\n]+$"):
            list_inputs(uri.format(server.getsockname()[1]))
        with pytest.raises(TimeoutError):
            server.accept()
