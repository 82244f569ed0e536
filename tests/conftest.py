"""One Ray for all tests of a process, and one thread; the longest file first, so that two at a time end together."""

import os
from collections.abc import Iterator

import pytest
import ray
import torch
from tiny import write_dataset

from prefrec_ray.runtime import start_ray

LONGEST = "test_multi_host.py"


def pytest_configure() -> None:
    """One thread for matrices, here and in processes that tests start: several would wait for each other.

    On two cores with something beside them the tests of fitted Q took 40 to 270 s, and 7 to 12 with one.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    start_ray(num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small data set of tiny.py, at a size for tests of equality."""
    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    write_dataset(folder, users=20, requests=60, pairs=96, length=10)
    return str(folder)
