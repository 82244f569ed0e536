"""Export of a policy's networks to ONNX, for servers that are not in Python."""

from __future__ import annotations

import io
import warnings

import onnx
import pyarrow as pa
import torch
from torch import Tensor, nn

from prefrec_ray import storage
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.critic import Critic, scaled
from prefrec_ray.storage.parquet import write_parquet

ACTOR, CRITIC, EFFECTS = "actor.onnx", "critic.onnx", "effects.parquet"
_OPSET = 17
#: Rows and candidates of the example with which a network is traced; both numbers are free in the file.
_ROWS, _CANDIDATES = 2, 3


def export_onnx(policy: Policy, output: str) -> list[str]:
    """Write `output`/actor.onnx, and critic.onnx and effects.parquet if Q scores items. Returns their names.

    actor: scaled `states` float32 [n, S], as from the tracker -> `actions` [n, A]. critic: `states` and `candidates`
    float32 [n, k, A], embeddings of items -> `scores` [n, k], by expected feedback if the policy uses it. effects:
    what the kinds of each item (`item_id`) add to its score. Raises `UserError` if `output` exists.
    """
    width, action = policy.actor.widths
    states, candidates = torch.zeros(_ROWS, width), torch.zeros(_ROWS, _CANDIDATES, action)
    models = {ACTOR: _model(policy.actor, {"states": states}, "actions")}
    effects = None
    if isinstance(policy.scorer, Critic):
        models[CRITIC] = _model(_Scores(policy.scorer), {"states": states, "candidates": candidates}, "scores")
        if policy.items.kind_codes is not None:
            effects = policy.scorer.effects(policy.items.kind_codes)
    with storage.staged(output, ACTOR) as folder:
        for name, model in models.items():
            storage.write_bytes(storage.join(folder, name), model)
        if effects is not None:
            table = pa.table({"item_id": policy.items.ids, "effect": effects})
            write_parquet(table, storage.join(folder, EFFECTS))
    return [*models, *([] if effects is None else [EFFECTS])]


class _Scores(nn.Module):
    """Scores [n, k] by a critic, as `Critic.scores` without chunks."""

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, states: Tensor, candidates: Tensor) -> Tensor:
        each = [network.given(scaled(states, scale))(candidates) for network, scale in self.critic.scaled_networks]
        return torch.stack(each).mean(0)


def _model(network: nn.Module, inputs: dict[str, Tensor], output: str) -> bytes:
    """Return the checked model of a network in evaluation, for any number of rows and candidates."""
    axes = {name: dict(enumerate("nk"[: value.ndim - 1])) for name, value in inputs.items()}
    axes[output] = axes[[*inputs][-1]]
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing needs no other package. It warns of widths, which become constants.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            file,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()), full_check=True)
    return file.getvalue()
