"""BCQ (Fujimoto et al. 2019): the best by Q of actions that a generative model of the log proposes, each perturbed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, cast

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.columns import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.losses import actor_loss, behavior_cloning_loss
from prefrec_ray.algorithms.settings import BCQSettings
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.candidates import CandidateActor, Perturbation, proposer
from prefrec_ray.policy.networks.layers import mlp, polyak_update, target_copy
from prefrec_ray.policy.networks.q import QFunction

#: Latents are clipped to [-MAX_LATENT, MAX_LATENT] before decoding, as in the authors' code.
MAX_LATENT = 0.5
#: Weight of the Kullback-Leibler term (a mean over latents) in the VAE's loss, as in the authors' code.
KL_WEIGHT = 0.5


class Encoder(nn.Module):
    """q(z | s, a): mean and standard deviation of a Gaussian, [B, Z] each, clipped as in the authors' code."""

    def __init__(self, inputs: int, hidden_sizes: Sequence[int], latents: int) -> None:
        super().__init__()
        self.net = mlp(inputs, hidden_sizes, 2 * latents)

    def forward(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(torch.cat([states, actions], dim=-1)).chunk(2, dim=-1)
        return mean, torch.clamp(log_std, -4.0, 15.0).exp()


class BCQModule(OfflineModule):
    """Networks: reward (base class), encoder, decoder, perturbation, twin q, and targets of the last two.

    The policy takes the best by Q1 of actions decoded from fixed latents: zero, and draws from the seed.
    """

    q: nn.ModuleList
    target_q: nn.ModuleList
    latents: Tensor

    def setup_method(self, settings: dict[str, Any]) -> None:
        bounds = self.action_space.low, self.action_space.high
        self.latent_dim = 2 * self.action_dim
        both = self.state_dim + self.action_dim
        self.encoder = Encoder(both, self.hidden_sizes, self.latent_dim)
        decoder = mlp(self.state_dim + self.latent_dim, self.hidden_sizes, self.action_dim)
        self.decoder = DeterministicActor(decoder, *bounds)
        reach = settings["perturbation"] * 0.5 * (self.action_space.high - self.action_space.low)
        self.perturbation = Perturbation(mlp(both, self.hidden_sizes, self.action_dim), *bounds, reach)
        self.q = self.twin_q()
        self.target_perturbation = target_copy(self.perturbation)
        self.target_q = target_copy(self.q)
        latents = torch.randn(settings["candidates"], self.latent_dim).clamp(-MAX_LATENT, MAX_LATENT)
        latents[0] = 0.0
        self.register_buffer("latents", latents)

    @property
    def actor(self) -> CandidateActor:
        """Return the best of the proposed actions by Q1; it shares the networks of the module."""
        return CandidateActor(self.decoder, self.perturbation, self.critics[0], self.latents)

    def decode(self, states: Tensor, latents: Tensor) -> Tensor:
        """Return actions [B, A] that the generative model decodes from latents [B, Z]."""
        return self.decoder(torch.cat([states, latents], dim=-1))


class BCQLearner(OfflineLearner):
    """Updates the generative model, critics, perturbation and targets (Algorithm 1 of their paper)."""

    net: BCQModule

    def networks_to_train(self, config: AlgorithmConfig) -> dict[str, tuple[nn.Module, float]]:
        """Return encoder and decoder under one optimizer, both Q under one, and the perturbation."""
        net = self.net
        return {
            "vae": (nn.ModuleList([net.encoder, net.decoder]), config.critic_lr),
            "q": (net.q, config.critic_lr),
            "perturbation": (net.perturbation, config.actor_lr),
        }

    def update_policy(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update the VAE on (s, a), Q, and the perturbation on -Q1.

        The target of Q is r + gamma max over candidates of the soft-clipped Qbar.
        """
        net, config = self.net, self.config
        obs, action, next_obs = batch[Columns.OBS], batch[Columns.ACTIONS], batch[Columns.NEXT_OBS]
        vae_loss = self._vae_loss(obs, action)
        self.minimise("vae", nn.ModuleList([net.encoder, net.decoder]), vae_loss)

        with torch.no_grad():
            reward = net.reward.label(batch)
            next_value = self._next_value(next_obs)
        metrics = {"losses/vae_loss": vae_loss.detach(), **self.update_q(batch, reward, next_value)}

        with torch.no_grad():
            proposed = net.decode(obs, self._latents(draw=1)[:, 0])
        policy_loss = actor_loss(net.q[0](obs, net.perturbation(obs, proposed)))
        self.minimise("perturbation", net.perturbation, policy_loss)

        polyak_update(net.target_q, net.q, config.tau)
        polyak_update(net.target_perturbation, net.perturbation, config.tau)
        return {**metrics, "losses/actor_loss": policy_loss.detach()}

    def _vae_loss(self, obs: Tensor, action: Tensor) -> Tensor:
        mean, std = self.net.encoder(obs, action)
        decoded = self.net.decode(obs, mean + std * self.noise(mean.shape[1]))
        return behavior_cloning_loss(decoded, action) + KL_WEIGHT * kl_divergence(mean, std).mean()

    def _next_value(self, next_obs: Tensor) -> Tensor:
        """Return max over candidates of lambda min(Qbar1, Qbar2) + (1 - lambda) max(Qbar1, Qbar2), [B]."""
        net, values = self.net, []
        propose = proposer(net.decoder, net.target_perturbation, next_obs)
        qs = [q.given(next_obs) for q in cast("Iterable[QFunction]", net.target_q)]
        for latents in self._latents(draw=2, candidates=len(net.latents)).unbind(1):
            action = propose(latents)
            q_1, q_2 = (q(action) for q in qs)
            values.append(soft_clipped(q_1, q_2, self.config.soft_clip))
        return torch.stack(values).amax(0)

    def _latents(self, draw: int, candidates: int = 1) -> Tensor:
        """Return [B, candidates, Z] from the clipped prior."""
        drawn = self.noise(candidates * self.net.latent_dim, draw).clamp(-MAX_LATENT, MAX_LATENT)
        return drawn.unflatten(1, (candidates, self.net.latent_dim))


def kl_divergence(mean: Tensor, std: Tensor) -> Tensor:
    """Return the KL divergence of N(mean, std^2) from the standard normal, per coordinate."""
    return 0.5 * (mean.square() + std.square() - 1.0) - std.log()


def soft_clipped(q_1: Tensor, q_2: Tensor, weight: float) -> Tensor:
    """Return weight min(Q1, Q2) + (1 - weight) max(Q1, Q2), Eq. 13 of their paper."""
    return weight * torch.minimum(q_1, q_2) + (1.0 - weight) * torch.maximum(q_1, q_2)


class BCQConfig(OfflineConfig):
    """Config of `BCQ`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or BCQ)

    @override(OfflineConfig)
    def training(
        self,
        *,
        perturbation: float = NotProvided,
        soft_clip: float = NotProvided,
        candidates: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set the settings of the method.

        Args:
            perturbation: Largest move of an action, in half-widths of the bounds, 0 to 1.
            soft_clip: Weight of the smaller of the twin Q, .5 to 1.
            candidates: Actions proposed for a state.
            kwargs: settings of `OfflineConfig.training`.

        Returns:
            This config.
        """
        return super().training(perturbation=perturbation, soft_clip=soft_clip, candidates=candidates, **kwargs)


class BCQ(OfflineAlgorithm):
    """Batch-constrained Q-learning.

    VAE:    mean (D(s, z) - a)^2 + 0.5 mean KL(N(mu, sigma^2) || N(0, 1)),  z = mu(s, a) + sigma(s, a) N(0, 1)
    y = r + gamma max over candidates a' of soft_clip min_i Qbar_i(s', a') + (1 - soft_clip) max_i Qbar_i(s', a')
    Q1, Q2: mean (y - Qi(s, a))^2, summed
    xi:     -mean Q1(s, xi(s, D(s, z)))

    Reference: Fujimoto et al. 2019, "Off-Policy Deep Reinforcement Learning without Exploration". The latents of the
    candidates are fixed. Settings: `BCQSettings` (`perturbation`, `soft_clip`, `candidates`).
    """

    Settings = BCQSettings
    Config = BCQConfig
    Module = BCQModule
    Learner = BCQLearner
