"""The small data set of tiny.py, at a size for tests of equality."""

import pytest
from tiny import write_dataset


@pytest.fixture(scope="session")
def tiny_dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    write_dataset(folder, users=20, requests=60, pairs=96, length=10)
    return str(folder)
