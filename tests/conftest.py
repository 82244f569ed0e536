"""One Ray for all tests of a process; the longest file first, so that two at a time end together."""

from collections.abc import Iterator

import pytest
import ray

from prefrec_ray.runtime import start_ray

LONGEST = "test_multi_host.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    start_ray(num_cpus=2)
    yield
    ray.shutdown()
