"""Settings of torch in processes that train: seeding without torch.compile, and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

#: Activations of the widest layer up to which one thread is used. A second one brings nothing (docs/results/speed.md),
#: and waits for its core if the machine is busy.
SMALL = 1 << 17


@contextmanager
def seeded_without_compile() -> Iterator[None]:
    """Let RLlib make torch deterministic as `torch.set_deterministic_debug_mode` does.

    With a seed and torch for processors, RLlib calls `torch.use_deterministic_algorithms(True)`. This sets the same
    flag, and an option of torch.compile, whose 800 modules take seconds of each process that trains.
    """
    original = torch.use_deterministic_algorithms

    def deterministic(mode: bool, *, warn_only: bool = False) -> None:
        torch.set_deterministic_debug_mode("default" if not mode else "warn" if warn_only else "error")

    torch.use_deterministic_algorithms = deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms = original


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
