"""Q that chooses among real items: what a policy bundle may hold beside its actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.normaliser import CLIP
from prefrec_ray.policy.networks.arrays import read_networks, write_networks
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.storage import Form

#: Numbers (rows x candidates x width) of one hidden layer held at once: half a MiB of float32, which stays in a core's
#: own cache beside the next layer's (16 MiB were 2 to 5 times slower, 1 MiB twice as slow with layers of 64).
_HIDDEN_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Critic:
    """The mean of one or several Q(s, a).

    `scales` [Q, 2, S], where their data sets scaled states otherwise: what brings the states that are given on the
    scale of each network (`Normaliser.rescaling`).

    Raises `UserError` where the networks differ in inputs, or there is none.
    """

    networks: Sequence[QFunction]
    scales: np.ndarray | None = None
    #: Whether scores are divided by their standard deviation over the items: Q has no scale of its own.
    standardised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        widths = [network.widths for network in self.networks]
        if len(set(widths)) != 1:
            raise UserError(f"critic: networks on states and actions of {widths} numbers; expected one or more, equal")

    @property
    def width(self) -> int:
        """Numbers in a state and an action together."""
        return sum(self.networks[0].widths)

    def rescaled(self, scale: np.ndarray) -> Critic:
        """The same of states that others scaled; `scale` [2, S]: factor and shift that bring them on its own scale."""
        same = np.stack([np.ones_like(scale[0]), np.zeros_like(scale[0])])
        own = np.stack([same] * len(self.networks)) if self.scales is None else self.scales
        factor, shift = scale
        return Critic(self.networks, np.stack([factor * own[:, 0], shift * own[:, 0] + own[:, 1]], axis=1))

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Q [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""
        n, k, _ = candidates.shape
        widest = max(size for network in self.networks for size in network.net.sizes[1:])
        chunk = max(1, _HIDDEN_AT_ONCE // (k * widest))
        scores = np.empty((n, k), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, n, chunk):
                rows = slice(start, start + chunk)
                s, a = (
                    torch.from_numpy(np.require(part[rows], requirements=["C", "W"])) for part in (states, candidates)
                )
                each = zip(self.networks, self._on_own_scales(s), strict=True)
                scores[rows] = torch.stack([q.given(own)(a) for q, own in each]).mean(0).numpy()
        return scores

    def _on_own_scales(self, states: Tensor) -> list[Tensor]:
        """The states [n, S] as each network knows them."""
        if self.scales is None:
            return [states] * len(self.networks)
        return [(states * factor + shift).clip(-CLIP, CLIP) for factor, shift in torch.from_numpy(self.scales)]

    def save(self, uri: str) -> dict[str, Any]:
        """Writes the arrays to `uri` (npz, no pickle); returns what `load` needs beside it, for JSON."""
        scales = {} if self.scales is None else {"scales": self.scales}
        sizes = write_networks(uri, {f"q{i}": q.net.layers for i, q in enumerate(self.networks)}, scales)
        described = {"layer_sizes": list(sizes.values()), "products": self.networks[0].products.tolist()}
        return described | ({} if self.scales is None else {"rescaled": True})

    @classmethod
    def load(
        cls,
        uri: str,
        sizes: Sequence[Sequence[int]],
        products: Sequence[Sequence[int]],
        widths: tuple[int, int],
        rescaled: bool,
    ) -> Critic:
        """Reads what `save` wrote; `widths` of a state and an action.

        Raises `UserError`: no such file, arrays that are missing or of other sizes.
        """
        forms: dict[str, Form] = {"scales": (np.float32, (len(sizes), 2, widths[0]))} if rescaled else {}
        networks, others = read_networks(uri, {f"q{i}": layers for i, layers in enumerate(sizes)}, forms)
        each = [QFunction(Mlp.of(layers), products, widths[1]) for layers in networks.values()]
        return cls(each, others.get("scales"))
