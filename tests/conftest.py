"""One Ray for all tests."""

from collections.abc import Iterator

import pytest
import ray

from prefrec_ray.runtime import start_ray


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    start_ray(num_cpus=2)
    yield
    ray.shutdown()
