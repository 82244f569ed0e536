"""Algorithm 1 of PrefRec (KDD 2023) in plain PyTorch: the yardstick the RLlib learner is compared with.

It shares no code with the package and uses no optimiser, module or ready-made loss of torch: every line is an equation
of the paper, so that a mistake would have to be made twice to go unseen. A network is a list of (weight [out, in],
bias [out]), float32 tensors.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Network = list[tuple[Tensor, Tensor]]
NETWORKS = ("reward", "value", "q", "target_q", "actor")


def mlp(network: Network, x: Tensor) -> Tensor:
    """x [..., in] -> [..., out], ReLU between layers, nothing after the last."""
    for index, (weight, bias) in enumerate(network):
        x = (torch.relu(x) if index else x) @ weight.T + bias
    return x


def expectile_loss(u: Tensor, expectile: float) -> Tensor:
    """Mean of H_tau(u) = |tau - 1(u < 0)| u^2 (Eq. 9)."""
    return ((expectile - (u < 0).to(u.dtype)).abs() * u**2).mean()


def preference_loss(return_0: Tensor, return_1: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy (Eq. 4) of the Bradley-Terry model (Eq. 3); returns, label = P(second preferred): [B].

    Eq. 3 is a sigmoid of the difference, and written so on purpose: a constant added to r cancels, so the gradient of
    the reward's output bias is zero. It is exactly zero in this form, with a forward pass a side; were it left to
    rounding, Adam would turn it into steps of a full `lr`.
    """
    logit = return_1 - return_0
    return -((1 - label) * logsigmoid(-logit) + label * logsigmoid(logit)).mean()


@dataclass
class Adam:
    """Adam (Kingma and Ba, 2015) with bias correction, on one network's parameters in place."""

    parameters: list[Tensor]
    lr: float
    beta_1: float = 0.9
    beta_2: float = 0.999
    eps: float = 1e-8
    count: int = 0
    first: list[Tensor] = field(init=False)
    second: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    def descend(self, loss: Tensor) -> float:
        """Take one step down the gradient of `loss` in these parameters only. Returns the loss before the step."""
        gradients = torch.autograd.grad(loss, self.parameters)
        self.count += 1
        with torch.no_grad():
            for p, g, m, v in zip(self.parameters, gradients, self.first, self.second, strict=True):
                m.copy_(self.beta_1 * m + (1 - self.beta_1) * g)
                v.copy_(self.beta_2 * v + (1 - self.beta_2) * g**2)
                m_hat = m / (1 - self.beta_1**self.count)
                v_hat = v / (1 - self.beta_2**self.count)
                p -= self.lr * m_hat / (v_hat.sqrt() + self.eps)
        return loss.item()


def parameters(network: Network) -> list[Tensor]:
    return [tensor for layer in network for tensor in layer]


def tensors(batch: Iterable) -> list[Tensor]:
    return [torch.as_tensor(array, dtype=torch.float32) for array in batch]


@dataclass
class PlainPrefRec:
    """Networks, their Adam states and the settings; `reward_mean` and `reward_std` may be set after pre-training."""

    nets: dict[str, Network]
    adam: dict[str, Adam]
    gamma: float
    expectile: float
    tau: float
    reward_input: Literal["state_action", "next_state"]
    reward_columns: Tensor | None
    product_columns: Tensor
    reward_mean: float
    reward_std: float
    finetune_reward: bool
    action_low: Tensor
    action_high: Tensor

    @classmethod
    def from_state(
        cls,
        nets: dict[str, list[tuple[np.ndarray, np.ndarray]]],
        *,
        gamma: float,
        expectile: float,
        tau: float,
        actor_lr: float,
        critic_lr: float,
        value_lr: float,
        reward_lr: float,
        reward_input: Literal["state_action", "next_state"] = "state_action",
        reward_columns: np.ndarray | None = None,
        product_columns: np.ndarray | tuple = (),
        reward_mean: float = 0.0,
        reward_std: float = 1.0,
        finetune_reward: bool = True,
        action_low: float | np.ndarray = -1.0,
        action_high: float | np.ndarray = 1.0,
    ) -> "PlainPrefRec":
        """Start from copies of the five networks `reward`, `value`, `q`, `target_q`, `actor`, with fresh Adam moments.

        `reward_columns` are the columns of the next state that the reward sees (`next_state` only; None: all).
        `product_columns` [P, A] are those whose inner products with the action Q sees.
        `action_low` and `action_high` are numbers or [A].
        """

        def copied(name: str) -> Network:
            trained = name != "target_q"
            return [
                tuple(torch.tensor(a, dtype=torch.float32, requires_grad=trained) for a in layer)
                for layer in nets[name]
            ]

        networks = {name: copied(name) for name in NETWORKS}
        rates = {"reward": reward_lr, "value": value_lr, "q": critic_lr, "actor": actor_lr}
        return cls(
            nets=networks,
            adam={name: Adam(parameters(networks[name]), lr) for name, lr in rates.items()},
            gamma=gamma,
            expectile=expectile,
            tau=tau,
            reward_input=reward_input,
            reward_columns=None if reward_columns is None else torch.as_tensor(reward_columns),
            product_columns=torch.as_tensor(np.array(product_columns, dtype=np.int64)),
            reward_mean=reward_mean,
            reward_std=reward_std,
            finetune_reward=finetune_reward,
            action_low=torch.as_tensor(action_low, dtype=torch.float32),
            action_high=torch.as_tensor(action_high, dtype=torch.float32),
        )

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """The raw r [...] that Eq. 3 sums."""
        if self.reward_input == "state_action":
            seen = torch.cat([obs, action], dim=-1)
        else:
            seen = next_obs if self.reward_columns is None else next_obs[..., self.reward_columns]
        return mlp(self.nets["reward"], seen)[..., 0]

    def value(self, obs: Tensor) -> Tensor:
        return mlp(self.nets["value"], obs)[..., 0]

    def q(self, obs: Tensor, action: Tensor, name: str = "q") -> Tensor:
        products = [(obs[..., columns] * action).sum(dim=-1, keepdim=True) for columns in self.product_columns]
        return mlp(self.nets[name], torch.cat([obs, action, *products], dim=-1))[..., 0]

    def policy(self, obs: Tensor) -> Tensor:
        """pi(s) [..., A], squashed by tanh into the action bounds."""
        middle, half = (self.action_high + self.action_low) / 2, (self.action_high - self.action_low) / 2
        return middle + half * torch.tanh(mlp(self.nets["actor"], obs))

    def pretrain_step(self, segments_0: dict, segments_1: dict, label: np.ndarray) -> dict[str, float]:
        """One reward update (lines 4 and 5; also 15 and 16).

        Segments hold `states` [B, L, S], `actions` [B, L, A], `next_states` [B, L, S]; label [B]: P(second preferred).
        """
        returns = [
            self.reward(*tensors(segments[name] for name in ("states", "actions", "next_states"))).sum(dim=-1)
            for segments in (segments_0, segments_1)
        ]
        loss = preference_loss(*returns, *tensors([label]))
        return {"reward_loss": self.adam["reward"].descend(loss)}

    def step(
        self, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, preferences: tuple | None = None
    ) -> dict[str, float]:
        """Lines 9 to 17 on a batch of transitions and, if given, one of preferences: (segments_0, segments_1, label).

        Every loss is the one its update descended: the networks updated before it are new, its own is old.
        """
        obs, action, next_obs = tensors([obs, action, next_obs])
        losses = {}

        # Line 9. The label is data to everything below, and older than this step's reward update.
        with torch.no_grad():
            reward = (self.reward(obs, action, next_obs) - self.reward_mean) / self.reward_std

        # Line 10, Eq. 9, towards the target network.
        target_q = self.q(obs, action, "target_q")
        losses["value_loss"] = self.adam["value"].descend(expectile_loss(target_q - self.value(obs), self.expectile))

        # Line 11, Eq. 6, with the V just updated; no terminal flag.
        with torch.no_grad():
            td_target = reward + self.gamma * self.value(next_obs)
        losses["q_loss"] = self.adam["q"].descend(((td_target - self.q(obs, action)) ** 2).mean())

        # Line 12, Eq. 10, with the Q just updated.
        losses["actor_loss"] = self.adam["actor"].descend(-self.q(obs, self.policy(obs)).mean())

        # Line 13; the paper's lambda is 1 - tau.
        with torch.no_grad():
            for slow, fast in zip(parameters(self.nets["target_q"]), parameters(self.nets["q"]), strict=True):
                slow.copy_((1 - self.tau) * slow + self.tau * fast)

        # Lines 14 to 17.
        if self.finetune_reward and preferences is not None:
            losses |= self.pretrain_step(*preferences)
        return losses
