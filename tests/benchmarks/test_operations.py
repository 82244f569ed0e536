"""The counted operations of a step equal torch's count minus unused operations."""

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.bare_loop import Arrays, tuned_prefrec
from benchmarks.speed.training import paper_sizes, prefrec_operations
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer

STATES, ACTIONS, LENGTH, HIDDEN = 11, 3, 5, (16, 8)
TRANSITIONS, PAIRS = 40, 32


def test_as_counted_by_torch() -> None:
    generator = np.random.default_rng(0)
    rows = torch.randn(100, STATES + ACTIONS)
    buffer = PreferenceBuffer(
        inputs=rows.numpy(),
        first=generator.integers(0, 90, (64, 2)),
        label=np.ones(64, dtype=np.float32),
        within=np.ones(64, dtype=bool),
        teacher=np.full(64, "someone"),
        length=LENGTH,
    )
    arrays = Arrays(rows[:, :STATES], torch.tanh(rows[:, STATES:]), rows[:, :STATES], buffer)
    sizes = paper_sizes(HIDDEN, TRANSITIONS, PAIRS)
    update = tuned_prefrec(arrays, sizes, seed=0)
    with FlopCounterMode(display=False) as counter:
        update()
    # The gradient of the actor's loss by the states that Q sees too is thrown away.
    unused = 2 * TRANSITIONS * STATES * HIDDEN[0]
    needed = prefrec_operations(STATES, ACTIONS, sizes, LENGTH)
    assert counter.get_total_flops() == needed + unused
