"""Linters of launch files, as programs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def lint(program: str, *arguments: str) -> None:
    """Check a file with `program`; skip the test if it is not installed."""
    path = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{program} is not installed (pip install {program}-py or {program}-bin)")
    result = subprocess.run([path, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
