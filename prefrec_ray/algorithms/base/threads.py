"""Number of threads of the tensor operations of an update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

#: Activations of the widest layer up to which one thread is used. A second one brings nothing (docs/results/speed.md),
#: and waits for its core if the machine is busy.
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
