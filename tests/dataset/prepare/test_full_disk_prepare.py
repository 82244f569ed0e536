"""`prepare` on a full disk ends in one line, and leaves nothing."""

from pathlib import Path

import pytest
import yaml
from small_disk import small_disk
from small_platform import logs_and_data

from prefrec_ray.cli.main import run


def test_one_line(small_platform: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, disk = tmp_path / "config.yaml", tmp_path / "disk"
    config.write_text(yaml.safe_dump(logs_and_data(str(small_platform))))
    # The rows by users (a third of a MB) fit, the states (some MB) do not.
    with small_disk(disk, kilobytes=1500):
        assert run(["prepare", str(config), "--output", f"{disk}/dataset"]) == 2
        assert list(disk.iterdir()) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "no space left" in line
