"""The loop of made-up nights in a folder of its own."""

from pathlib import Path

import pytest
from made_up_nights import Loop


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path / "loop")
