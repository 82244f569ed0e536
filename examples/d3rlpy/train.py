"""A policy of another library under the same evaluation: TD3+BC of d3rlpy on a data set of prefrec_ray.

    prefrec export DATASET --format d3rlpy --output EPISODES
    python train.py DATASET EPISODES POLICY
    prefrec evaluate POLICY --dataset DATASET

The networks of d3rlpy become a policy bundle: linear layers with ReLUs between them, and tanh at the end.
"""

import sys

import d3rlpy
import numpy as np
from torch import nn

from prefrec_ray import Policy, PreparedDataset
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp

STEPS = 5_000


def main(uri: str, episodes: str, output: str, steps: int = STEPS) -> None:
    """Train on the export `episodes` of the data set at `uri`, and write the policy bundle `output`."""
    dataset = PreparedDataset.open(uri)
    with np.load(f"{episodes}/episodes.npz") as arrays:
        data = d3rlpy.dataset.MDPDataset(**arrays)
    algorithm = d3rlpy.algos.TD3PlusBCConfig(gamma=0.9).create(device="cpu:0")
    algorithm.fit(data, n_steps=steps, n_steps_per_epoch=steps, show_progress=False)

    linear = [layer for layer in algorithm.impl.policy.modules() if isinstance(layer, nn.Linear)]
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in linear]
    bound = np.ones(dataset.state.action_dim, np.float32)
    policy = Policy(
        actor=DeterministicActor(Mlp.from_layers(layers), -bound, bound),
        state=dataset.state,
        normaliser=dataset.normaliser,
        items=dataset.items(),
        provenance={"method": "d3rlpy TD3+BC", "task": "frequency", "dataset": uri},
    )
    states = dataset.arrays("requests", "test", columns=["state"])["state"][:100]
    np.testing.assert_allclose(policy.act(states), algorithm.predict(states), atol=1e-5)
    policy.save(output)


if __name__ == "__main__":
    main(*sys.argv[1:4])
