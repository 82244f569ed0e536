"""Number of threads of the tensor operations of an update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

#: Activations of the widest layer up to which one thread is used. With so few, threads wait for each other longer than
#: they compute (docs/results/speed.md).
SMALL = 1 << 17


@contextmanager
def useful_threads(rows: int, hidden_sizes: Sequence[int]) -> Iterator[None]:
    """Compute in one thread if batches of `rows` rows are small for these networks.

    The number of threads changes the order of sums, so that runs with small batches are also the same on machines with
    different numbers of cores.
    """
    available = torch.get_num_threads()
    torch.set_num_threads(1 if rows * max(hidden_sizes) <= SMALL else available)
    try:
        yield
    finally:
        torch.set_num_threads(available)
