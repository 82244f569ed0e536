"""Adam: torch's own to the bit, without the import of torch.compile."""

import copy
import os
import subprocess
import sys

import pytest
import torch

from prefrec_ray.acceleration import Adam
from prefrec_ray.policy.networks.layers import mlp


def test_it_is_torchs_to_the_bit_and_goes_on_from_its_state() -> None:
    """Steps, a change of rate, and the state of one taken by the other."""
    torch.manual_seed(0)
    ours, theirs = mlp(5, (7,), 2), mlp(5, (7,), 2)
    theirs.load_state_dict(ours.state_dict())
    mine, own = Adam(ours.parameters(), lr=1e-2), torch.optim.Adam(theirs.parameters(), lr=1e-2, fused=True)
    inputs = torch.randn(40, 5)
    for step in range(30):
        if step == 10:
            mine.param_groups[0]["lr"] = own.param_groups[0]["lr"] = 1e-3
        if step == 20:
            mine.load_state_dict(copy.deepcopy(own.state_dict()))
        for network, optimizer in ((ours, mine), (theirs, own)):
            optimizer.zero_grad()
            network(inputs).square().sum().backward()
            optimizer.step()
    before = mlp(5, (7,), 2)
    for one, other, first in zip(ours.parameters(), theirs.parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, first)
    states = mine.state_dict(), own.state_dict()
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert all(torch.equal(states[0]["state"][i]["exp_avg"], states[1]["state"][i]["exp_avg"]) for i in range(4))


@pytest.mark.parametrize(("accelerate", "imported"), [("1", 0), ("0", 1)])
def test_training_does_not_import_torch_compile(accelerate: str, imported: int) -> None:
    program = """
import sys, torch
from prefrec_ray.acceleration import Adam
weight = torch.ones(3, requires_grad=True)
optimizer = Adam([weight])
weight.square().sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
assert weight.max() < 1
sys.exit("torch._dynamo" in sys.modules)
"""
    environment = {**os.environ, "PREFREC_ACCELERATE": accelerate}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == imported
