"""Networks on a state and an item: Q(s, a) and expected feedback, with inner products as inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.errors import UserError
from prefrec_ray.policy.networks.layers import Mlp, mlp


class ItemNetwork(nn.Module):
    """An MLP on a state, an action, and the inner products of the action with parts of the state.

    `products` [P, A] are state columns, A per row, for example running means of item embeddings: their inner product
    with an item is a similarity. An MLP learns products slowly, and a policy without them repeats similar items
    (docs/recipe.md). The paper's Q has none (P = 0).

    Raises `UserError` if the MLP has other inputs, or other outputs than `outputs`.
    """

    #: Number of outputs; None: any number.
    outputs: ClassVar[int | None] = None
    products: Tensor

    def __init__(self, net: Mlp, products: Sequence[Sequence[int]], action_dim: int) -> None:
        super().__init__()
        state_dim = net.sizes[0] - action_dim - len(products)
        if (
            self.outputs not in (None, net.sizes[-1])
            or state_dim < 1
            or any(len(part) != action_dim or not 0 <= min(part) <= max(part) < state_dim for part in products)
        ):
            raise UserError(
                f"critic: takes {net.sizes[0]} numbers and gives {net.sizes[-1]}; expected a state, an action of "
                f"{action_dim}, {len(products)} products of columns of the state, and {self.outputs or 'any'} output"
            )
        self.net = net
        columns = torch.tensor(products, dtype=torch.int64).reshape(len(products), action_dim)
        self.register_buffer("products", columns, persistent=False)

    @classmethod
    def random(
        cls,
        state_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        products: Sequence[Sequence[int]],
        outputs: int = 1,
    ) -> Self:
        """Return a network with random weights."""
        return cls(mlp(state_dim + action_dim + len(products), hidden_sizes, outputs), products, action_dim)

    @property
    def widths(self) -> tuple[int, int]:
        """Return the widths of a state and of an action."""
        action = self.products.shape[1]
        return self.net.sizes[0] - action - len(self.products), action

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return outputs [B, O] of states [B, S] and actions [B, A]."""
        products = torch.bmm(self._parts(states), actions[:, :, None])[:, :, 0]
        return self.net(torch.cat([states, actions, products], dim=-1))

    def given(self, states: Tensor) -> Callable[..., Tensor]:
        """Return the outputs, [n, O] or [n, k, O], as a function of actions [n, A] or [n, k, A] and a slice of states.

        States [n, S] pass the first layer once. Products are linear in the action, so that action and products enter
        this layer by one matrix per state; separate products were half of the work for many actions.
        """
        first, (state_dim, action_dim) = self.net.linear[0], self.widths
        of_states, of_actions, of_products = first.weight.split([state_dim, action_dim, len(self.products)], dim=1)
        seen = nn.functional.linear(states, of_states, first.bias)[:, None]
        matrix = of_actions.T + self._parts(states).transpose(1, 2) @ of_products.T  # [n, A, H]

        def values(actions: Tensor, rows: slice | None = None) -> Tensor:
            single = actions.ndim == 2
            several = actions[:, None] if single else actions
            own = (seen, matrix) if rows is None else (seen[rows], matrix[rows])
            outputs = self.net.after_first(torch.baddbmm(own[0], several, own[1]))
            return outputs[:, 0] if single else outputs

        return values

    def _parts(self, states: Tensor) -> Tensor:
        """Return the parts of the states with which actions are multiplied, [n, P, A]."""
        return states[:, self.products.ravel()].unflatten(1, self.products.shape)


class QFunction(ItemNetwork):
    """Q(s, a)."""

    outputs = 1

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return Q [B] of states [B, S] and actions [B, A]."""
        return super().forward(states, actions).squeeze(-1)

    def scaled(self, factor: float) -> QFunction:
        """Return `factor` times this Q."""
        *hidden, (weight, bias) = self.net.layers
        net = Mlp.from_layers([*hidden, (weight * np.float32(factor), bias * np.float32(factor))])
        return QFunction(net, self.products.tolist(), self.widths[1])

    def given(self, states: Tensor) -> Callable[..., Tensor]:
        """Return Q for fixed states as a function of actions, [n] or [n, k]."""
        outputs = super().given(states)
        return lambda actions, rows=None: outputs(actions, rows).squeeze(-1)
