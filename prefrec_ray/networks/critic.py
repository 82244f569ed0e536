"""Q as plain arrays, to choose with among real items: what a policy bundle holds beside its actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.errors import UserError
from prefrec_ray.networks.arrays import Layers, given_states, layer_sizes, read_networks, to_tensors, write_networks

#: Numbers (rows x candidates x width) of one hidden layer held at once: half a MiB of float32, which stays in a core's
#: own cache beside the next layer's (16 MiB were 2 to 5 times slower, 1 MiB twice as slow with layers of 64).
_HIDDEN_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Critic:
    """The mean of one or several Q(s, a), MLPs on a state and an action. Pickles as plain arrays.

    Raises `UserError` where the layers do not fit together, the networks differ in width, or there is none.
    """

    networks: Sequence[Layers]

    def __post_init__(self) -> None:
        ends = {(first, last) for first, *_, last in map(layer_sizes, self.networks)}
        if len(ends) != 1 or ends.pop()[1] != 1:
            found = [layer_sizes(layers) for layers in self.networks]
            raise UserError(f"critic: networks of {found} numbers; expected one or more, equal inputs, one output")

    @property
    def width(self) -> int:
        """Numbers in a state and an action together."""
        return layer_sizes(self.networks[0])[0]

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Q [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""
        n, k, _ = candidates.shape
        widest = max(size for layers in self.networks for size in layer_sizes(layers)[1:])
        chunk = max(1, _HIDDEN_AT_ONCE // (k * widest))
        found = np.empty((n, k), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, n, chunk):
                rows = slice(start, start + chunk)
                s, a = (torch.from_numpy(np.ascontiguousarray(part[rows])) for part in (states, candidates))
                found[rows] = torch.stack([given_states(q, s)(a)[..., 0] for q in self._tensors]).mean(0).numpy()
        return found

    def save(self, uri: str) -> list[list[int]]:
        """Writes the arrays to `uri` (npz, no pickle); returns the layers' sizes, for `load`."""
        return list(write_networks(uri, {f"q{i}": layers for i, layers in enumerate(self.networks)}).values())

    @classmethod
    def load(cls, uri: str, sizes: Sequence[Sequence[int]]) -> Critic:
        """Reads what `save` wrote. Raises `UserError`: no such file, arrays that are missing or of other sizes."""
        networks, _ = read_networks(uri, {f"q{i}": layers for i, layers in enumerate(sizes)})
        return cls(list(networks.values()))

    @cached_property
    def _tensors(self) -> list[list[tuple[Tensor, Tensor]]]:
        return [to_tensors(layers) for layers in self.networks]

    def __getstate__(self) -> dict[str, object]:
        return {"networks": self.networks}
