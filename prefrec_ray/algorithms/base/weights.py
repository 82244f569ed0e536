"""Networks of a checkpoint as plain arrays, for readers that only need weights: `export` and `pairs`.

RLlib's checkpoint contains pickles, which run code when they are loaded: safe for a run that resumes, unsafe for a
foreign folder. Each checkpoint therefore also contains its networks as arrays and JSON, and all readers except
`--resume` use these. A key that signs checkpoints would have to reach every host, would be lost with a head node, and
could not cover Tune's state. Instead, `--resume` loads only files of the same user (`runs.checkpoints.check_own`).

CHECKPOINT/weights.npz  CHECKPOINT/weights.json
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.policy.networks.arrays import check_finite

ARRAYS, DESCRIPTION = "weights.npz", "weights.json"


@dataclass(frozen=True)
class NetworkWeights:
    """State of an `OfflineModule` by name, and the JSON to build it from: settings, widths, bounds."""

    arrays: dict[str, np.ndarray]
    description: dict[str, Any]

    @classmethod
    def from_module(cls, module: Any) -> NetworkWeights:
        """Return a copy of the current weights of `module`."""
        actions = module.action_space
        return cls(
            {name: value.cpu().numpy().copy() for name, value in module.state_dict().items()},
            {
                "settings": dict(module.model_config),
                "state_dim": module.state_dim,
                "action_low": actions.low.tolist(),
                "action_high": actions.high.tolist(),
            },
        )

    def check(self, where: str) -> NetworkWeights:
        """Return the object itself. Raises `UserError`, which begins with `where`, if a number is not finite."""
        check_finite(self.arrays, where)
        return self

    def save(self, folder: str) -> None:
        """Write both files to `folder`."""
        storage.write_arrays(storage.join(folder, ARRAYS), self.arrays)
        storage.write_json(storage.join(folder, DESCRIPTION), self.description)

    @classmethod
    def load(cls, folder: str) -> NetworkWeights:
        """Load both files. Raises `UserError` if one is missing or damaged, or a number is not finite."""
        arrays = storage.read_arrays(storage.join(folder, ARRAYS))
        return cls(arrays, storage.read_json(storage.join(folder, DESCRIPTION))).check(folder)
