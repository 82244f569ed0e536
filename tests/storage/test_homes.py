"""Paths that begin with a home, and texts that are not paths."""

from pathlib import Path

import pytest

from prefrec_ray import storage
from prefrec_ray.errors import UserError


def test_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage.write_text("~/a", "x")
    assert (tmp_path / "a").read_text() == "x"
    assert storage.absolute("~/a") == str(tmp_path / "a")


def test_nobodys() -> None:
    with pytest.raises(UserError, match=r"^~no-such-user/runs: found no user ~no-such-user; expected a path$"):
        storage.exists("~no-such-user/runs")


@pytest.mark.parametrize("path", ["a\0b", "s3://a\0b"])
def test_what_no_path_holds(path: str) -> None:
    with pytest.raises(UserError, match=r"a\\x00b': found a NUL; expected a path or URI"):
        storage.read_text(path)
