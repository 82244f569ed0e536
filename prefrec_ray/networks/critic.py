"""Q that chooses among real items: what a policy bundle may hold beside its actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from prefrec_ray.errors import UserError
from prefrec_ray.networks.arrays import read_networks, write_networks
from prefrec_ray.networks.layers import Mlp

#: Numbers (rows x candidates x width) of one hidden layer held at once: half a MiB of float32, which stays in a core's
#: own cache beside the next layer's (16 MiB were 2 to 5 times slower, 1 MiB twice as slow with layers of 64).
_HIDDEN_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Critic:
    """The mean of one or several Q(s, a), MLPs on a state and an action.

    Raises `UserError` where the networks differ in inputs, have several outputs, or there is none.
    """

    networks: Sequence[Mlp]
    #: Whether scores are divided by their standard deviation over the items: Q has no scale of its own.
    standardised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sizes = [network.sizes for network in self.networks]
        if len({widths[0] for widths in sizes}) != 1 or any(widths[-1] != 1 for widths in sizes):
            raise UserError(f"critic: networks of {sizes} numbers; expected one or more, equal inputs, one output")

    @property
    def width(self) -> int:
        """Numbers in a state and an action together."""
        return self.networks[0].sizes[0]

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Q [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""
        n, k, _ = candidates.shape
        widest = max(size for network in self.networks for size in network.sizes[1:])
        chunk = max(1, _HIDDEN_AT_ONCE // (k * widest))
        scores = np.empty((n, k), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, n, chunk):
                rows = slice(start, start + chunk)
                s, a = (torch.from_numpy(np.ascontiguousarray(part[rows])) for part in (states, candidates))
                scores[rows] = torch.stack([q.given(s)(a)[..., 0] for q in self.networks]).mean(0).numpy()
        return scores

    def save(self, uri: str) -> list[list[int]]:
        """Writes the arrays to `uri` (npz, no pickle); returns the layers' sizes, for `load`."""
        return list(write_networks(uri, {f"q{i}": q.layers for i, q in enumerate(self.networks)}).values())

    @classmethod
    def load(cls, uri: str, sizes: Sequence[Sequence[int]]) -> Critic:
        """Reads what `save` wrote. Raises `UserError`: no such file, arrays that are missing or of other sizes."""
        networks, _ = read_networks(uri, {f"q{i}": layers for i, layers in enumerate(sizes)})
        return cls([Mlp.of(layers) for layers in networks.values()])
