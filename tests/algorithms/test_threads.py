"""Small batches are computed in one thread, large ones in all; the number of threads is restored."""

from collections.abc import Iterator

import pytest
import torch

from prefrec_ray.acceleration import useful_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "widths", "threads"), [(512, (64, 256), 1), (512, (257,), 3), (4096, (256,) * 3, 3)])
def test_threads_of_a_batch(rows: int, widths: tuple[int, ...], threads: int) -> None:
    with useful_threads(rows, widths):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


def test_a_failed_update_restores_the_threads() -> None:
    with pytest.raises(RuntimeError, match="stop"), useful_threads(1, [1]):
        raise RuntimeError("stop")
    assert torch.get_num_threads() == 3
