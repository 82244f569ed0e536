"""A checkpoint's networks as plain arrays, for whoever wants weights alone: export, and rewards that ask people.

RLlib's own checkpoint is made of pickles, which run code when they are loaded: right for a run that goes on from what
it wrote itself, wrong for a folder that somebody sends. So each checkpoint holds its networks a second time, as arrays
and JSON that nothing has to be believed for, and all but `--resume` reads those. A key that signs checkpoints was the
alternative: it would have to reach every host that trains, would be lost with a head node just when a run is to go on
elsewhere, and could not cover the state that Tune writes by itself. What `--resume` loads must instead belong to the
user who resumes (`runs.checkpoints.check_own`).

CHECKPOINT/weights.npz  CHECKPOINT/weights.json
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.networks.arrays import check_finite

ARRAYS, DESCRIPTION = "weights.npz", "weights.json"


@dataclass(frozen=True)
class Weights:
    """The state of an `OfflineModule` by name, and the JSON that it is built from: settings, widths, bounds."""

    arrays: dict[str, np.ndarray]
    description: dict[str, Any]

    @classmethod
    def of(cls, module: Any) -> Weights:
        """Copies of a module's weights as they stand."""
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

    def check(self, where: str) -> Weights:
        """Itself. Raises `UserError`, which `where` opens, where a number is not finite."""
        check_finite(self.arrays, where)
        return self

    def save(self, folder: str) -> None:
        """Writes both files to `folder`."""
        storage.write_arrays(storage.join(folder, ARRAYS), self.arrays)
        storage.write_json(storage.join(folder, DESCRIPTION), self.description)

    @classmethod
    def load(cls, folder: str) -> Weights:
        """Reads both files. Raises `UserError`: one is missing or damaged, a number is not finite."""
        arrays = storage.read_arrays(storage.join(folder, ARRAYS))
        return cls(arrays, storage.read_json(storage.join(folder, DESCRIPTION))).check(folder)
