"""The small data set whose best action is known, for sweeps; and one that the simulator made."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "algorithms"))
from tiny import write_dataset


@pytest.fixture(scope="session")
def small_dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sweeps") / "dataset"
    write_dataset(folder, users=20, requests=60, pairs=96, length=10)
    return str(folder)
