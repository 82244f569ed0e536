"""How many operations a step of PrefRec needs: multiplications and additions of its matrix products, and no others.

What a loop computes beside these (gradients of inputs that nobody uses, of networks that do not learn from a loss) does
not count: a loop that leaves it out is faster for the same work.
"""

from __future__ import annotations

from itertools import pairwise

from benchmarks.bare_loop import Sizes


def forward(rows: int, widths: tuple[int, ...]) -> int:
    """Of a forward pass of `rows` rows through layers of these widths."""
    return 2 * rows * sum(a * b for a, b in pairwise(widths))


def backward(rows: int, widths: tuple[int, ...]) -> int:
    """Of the gradient of all weights: a product a layer for weights, and one for inputs of all but the first."""
    return forward(rows, widths) + forward(rows, widths[1:])


def input_gradient(rows: int, widths: tuple[int, ...], columns: int) -> int:
    """Of the gradient of the first `columns` of the inputs alone."""
    return 2 * rows * columns * widths[1] + forward(rows, widths[1:])


def prefrec_operations(states: int, actions: int, sizes: Sizes, length: int) -> int:
    """Of one update of V, Q and actor, and one of the reward on segments of `length` requests (Algorithm 1)."""
    rows, hidden = sizes.transitions, sizes.hidden_sizes
    value, q, actor = (states, *hidden, 1), (states + actions, *hidden, 1), (states, *hidden, actions)
    label_and_target = 2 * forward(rows, q)
    value_step = forward(rows, value) + backward(rows, value) + forward(rows, value)  # the last of the next states
    q_step = forward(rows, q) + backward(rows, q)
    actor_step = forward(rows, actor) + backward(rows, actor) + forward(rows, q) + input_gradient(rows, q, actions)
    segments = 2 * sizes.pairs * length
    return label_and_target + value_step + q_step + actor_step + forward(segments, q) + backward(segments, q)
