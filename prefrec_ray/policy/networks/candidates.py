"""Actor of BCQ: the best of several decoded and perturbed actions, by a critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.errors import UserError
from prefrec_ray.policy.networks.actors import Actor, Bounded, DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.storage import Form


class Perturbation(Bounded):
    """xi(s, a): actions [n, A] moved by at most `reach` [A], and kept in the bounds."""

    reach: Tensor

    def __init__(self, net: Mlp, low: np.ndarray, high: np.ndarray, reach: np.ndarray) -> None:
        super().__init__(low, high)
        self.net = net
        self.register_buffer("reach", torch.tensor(reach, dtype=torch.float32), persistent=False)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        return self.moved(actions, self.net(torch.cat([states, actions], dim=-1)))

    def moved(self, actions: Tensor, outputs: Tensor) -> Tensor:
        """Return actions [n, A] moved by the outputs of the MLP, [n, A]."""
        return torch.clamp(actions + self.reach * torch.tanh(outputs), self.low, self.high)


def proposer(decoder: DeterministicActor, perturbation: Perturbation, states: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from latents [n, Z] to the actions [n, A] proposed in `states`, decoded and moved."""
    decode, move = decoder.net.given(states), perturbation.net.given(states)

    def propose(latents: Tensor) -> Tensor:
        actions = decoder.squashed(decode(latents))
        return perturbation.moved(actions, move(actions))

    return propose


class CandidateActor(Actor):
    """The best of K candidates by a critic (BCQ, Fujimoto et al. 2019, Eq. 12 with fixed latents).

    One candidate is proposed for each row z of `latents` [K, Z]: decoded from (s, z), and moved. The critic scores (s,
    a); of equal scores the first counts. Raises `UserError` if the widths of the networks disagree.
    """

    kind = "candidates"
    network_names = ("decoder", "perturbation", "critic")
    arrays: ClassVar[Mapping[str, Form]] = {
        "latents": (np.float32, (None, None)),
        "reach": (np.float32, (None,)),
        "products": (np.int64, (None, None)),
    }
    latents: Tensor

    def __init__(
        self, decoder: DeterministicActor, perturbation: Perturbation, critic: QFunction, latents: Tensor
    ) -> None:
        super().__init__(decoder.low, decoder.high)
        self.decoder, self.perturbation, self.critic = decoder, perturbation, critic
        self.register_buffer("latents", latents, persistent=False)
        state, action = self.widths
        ends, expected = (perturbation.net.sizes[0], perturbation.net.sizes[-1]), (state + action, action)
        if ends != expected:
            raise UserError(
                f"policy: the perturbation takes {ends[0]} numbers and gives {ends[1]}; "
                f"expected {expected[0]} and {expected[1]}"
            )
        if critic.widths != (state, action):
            raise UserError(
                f"policy: the critic takes states and actions of {critic.widths} numbers; expected {(state, action)}"
            )
        if len(latents) == 0 or perturbation.reach.shape != self.low.shape:
            raise UserError(
                f"policy: found {len(latents)} latents and a reach of {len(perturbation.reach)} numbers; "
                f"expected one or more, and {action}"
            )

    def forward(self, states: Tensor) -> Tensor:
        propose = proposer(self.decoder, self.perturbation, states)
        score = self.critic.given(states)
        best = propose(self.latents[0].expand(states.shape[0], -1))
        best_score = score(best)
        for latent in self.latents[1:]:  # one by one, so that K candidates need the memory of two
            actions = propose(latent.expand(states.shape[0], -1))
            scores = score(actions)
            better = scores > best_score
            best = torch.where(better[:, None], actions, best)
            best_score = torch.where(better, scores, best_score)
        return best

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> CandidateActor:
        decoder = DeterministicActor(parts["decoder"], low, high)
        perturbation = Perturbation(parts["perturbation"], low, high, parts["reach"])
        critic = QFunction(parts["critic"], parts["products"], len(low))
        return CandidateActor(decoder, perturbation, critic, torch.tensor(parts["latents"]))

    @property
    def parts(self) -> dict[str, Any]:
        return {
            "decoder": self.decoder.net,
            "perturbation": self.perturbation.net,
            "critic": self.critic.net,
            "products": self.critic.products,
            "latents": self.latents,
            "reach": self.perturbation.reach,
        }

    @property
    def widths(self) -> tuple[int, int]:
        inputs, *_, action = self.decoder.net.sizes
        return inputs - self.latents.shape[1], action
