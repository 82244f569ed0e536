"""A policy of another library under the same evaluation: TD3+BC of d3rlpy on a data set of prefrec_ray.

    python train.py DATASET POLICY
    prefrec evaluate POLICY --dataset DATASET

The networks of d3rlpy become a policy bundle: linear layers with ReLUs between them, and tanh at the end.
"""

import sys

import d3rlpy
import numpy as np
from torch import nn

from prefrec_ray import Policy, PreparedDataset
from prefrec_ray.ids import changes, codes, last_rows
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp

STEPS = 5_000


def read_episodes(dataset: PreparedDataset) -> d3rlpy.dataset.MDPDataset:
    """Return one episode per training user; the reward is a session's level of `frequency` after its last impression.

    The data set has one item per step. Episodes are truncated and never end, since users come back.
    """
    columns: dict[str, list[np.ndarray]] = {"observations": [], "actions": [], "rewards": [], "timeouts": []}
    for file in dataset.files("requests", "train"):
        rows = dataset.arrays("requests", "train", file.rsplit("/", 1)[-1])
        sessions = dataset.arrays("sessions", file.rsplit("/", 1)[-1])
        user = codes(dataset.read(file, ["user_id"])["user_id"])
        ends = last_rows(np.flatnonzero(changes(user) | changes(rows["session_index"])), len(user))
        rewards, timeouts = np.zeros((2, len(user)), np.float32)
        rewards[ends] = np.nan_to_num(sessions["level_frequency"][sessions["split"] == "train"])
        timeouts[last_rows(np.flatnonzero(changes(user)), len(user))] = 1.0
        for name, values in zip(columns, (rows["state"], rows["action"], rewards, timeouts), strict=True):
            columns[name].append(values)
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    return d3rlpy.dataset.MDPDataset(terminals=np.zeros_like(arrays["timeouts"]), **arrays)


def main(uri: str, output: str, steps: int = STEPS) -> None:
    """Train on the data set at `uri`, and write the policy bundle `output`."""
    dataset = PreparedDataset.open(uri)
    data = read_episodes(dataset)
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
    main(*sys.argv[1:3])
