"""`prepare` on a full disk ends in one line, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_platform import logs_and_data

from prefrec_ray.cli.main import run

#: A separate disk, visible only to this process and its children.
SCRIPT = """
mount -t tmpfs -o size={small}k none {disk} || exit 77
{prefrec} prepare {config} --output {disk}/dataset 2> {folder}/errors
echo $? > {folder}/status
ls -A {disk} > {folder}/left
"""


def test_one_line(ray_session: None, tmp_path: Path) -> None:
    config, disk = tmp_path / "config.yaml", tmp_path / "disk"
    disk.mkdir()
    config.write_text(yaml.safe_dump(logs_and_data(str(tmp_path))))
    assert run(["simulate", str(config), "--output", str(tmp_path / "logs")]) == 0
    # Its own Ray: workers must see the disk.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    prefrec = f"{sys.executable} -m prefrec_ray.cli.main"
    # The rows by users (a third of a MB) fit, the states (some MB) do not.
    script = SCRIPT.format(disk=disk, folder=tmp_path, prefrec=prefrec, config=config, small=1500)
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], env=environment, capture_output=True, text=True)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("a disk of its own needs the right to mount one")
    assert done.returncode == 0, done.stderr
    errors = (tmp_path / "errors").read_text()
    assert "no space left" in errors
    assert errors.count("\n") == 1, errors
    assert (tmp_path / "status").read_text().strip() == "2"
    assert (tmp_path / "left").read_text() == ""
