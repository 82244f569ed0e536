"""Unreadable JSON files are reported in one line."""

import json
from pathlib import Path

import pytest

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.nightly.folder import LoopFolder

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
    value = {"a": [1, 2.5, None, "ö"], "b": {"c": True}}
    storage.write_json(str(tmp_path / "file.json"), value)
    assert storage.read_json(str(tmp_path / "file.json")) == value
