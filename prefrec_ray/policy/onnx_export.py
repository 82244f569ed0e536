"""Export of a policy's networks to ONNX, from plain arrays, for servers that are not in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.normaliser import CLIP
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.arrays import Layers
from prefrec_ray.policy.networks.candidates import CandidateActor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.layers import to_array
from prefrec_ray.policy.networks.q import ItemNetwork, QFunction
from prefrec_ray.storage.parquet import write_parquet

ACTOR, CRITIC, EFFECTS = "actor.onnx", "critic.onnx", "effects.parquet"
_OPSET, _IR_VERSION = 17, 9


def export_onnx(policy: Policy, output: str) -> list[str]:
    """Write `output`/actor.onnx, and critic.onnx and effects.parquet if Q scores items. Returns their names.

    actor: scaled `states` float32 [n, S], as from the tracker -> `actions` [n, A]. critic: `states` and `candidates`
    float32 [n, k, A], embeddings of items -> `scores` [n, k], by expected feedback if the policy uses it. effects:
    what the kinds of each item (`item_id`) add to its score. Raises `UserError` if `output` exists, or for an actor of
    another kind.
    """
    models = {ACTOR: _actor(policy)}
    if isinstance(policy.scorer, Critic):
        models[CRITIC] = _critic(policy.scorer, policy)
    effects = None
    if isinstance(policy.scorer, Critic) and policy.items.kind_codes is not None:
        effects = policy.scorer.effects(policy.items.kind_codes)
    with storage.staged(output, ACTOR) as folder:
        for name, model in models.items():
            storage.write_bytes(storage.join(folder, name), model.SerializeToString())
        if effects is not None:
            table = pa.table({"item_id": policy.items.ids, "effect": effects})
            write_parquet(table, storage.join(folder, EFFECTS))
    return [*models, *([] if effects is None else [EFFECTS])]


class _Graph:
    """Graph of nodes that are added one by one; a value has the name of its node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def array(self, value: Any) -> str:
        """Add a constant, and return its name."""
        plain = to_array(value) if isinstance(value, Tensor) else np.asarray(value)
        plain = plain.astype(np.float32) if plain.dtype == np.float64 else plain
        name = f"array_{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(plain), name))
        return name

    def linear(self, value: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """Add a layer for `value` [..., in] -> [..., out]."""
        product = self.add("MatMul", value, self.array(weight.T))
        return product if bias is None else self.add("Add", product, self.array(bias))

    def mlp(self, value: str, layers: Layers) -> str:
        """Add linear layers with ReLU between them for `value`."""
        for number, (weight, bias) in enumerate(layers):
            value = self.linear(self.add("Relu", value) if number else value, weight, bias)
        return value

    def given(self, states: str, others: str, width: int, layers: Layers) -> str:
        """Add `Mlp.given`: states [n, S] and others [n, k, width] or [k, width] -> [n, k, out]."""
        (weight, bias), *rest = layers
        of_states, of_others = np.split(weight, [weight.shape[1] - width], axis=1)
        seen = self.add("Unsqueeze", self.linear(states, of_states, bias), self.array(np.array([1])))
        hidden = self.add("Add", seen, self.linear(others, of_others))
        return self.mlp(self.add("Relu", hidden), rest) if rest else hidden

    def squashed(self, value: str, low: Tensor, high: Tensor) -> str:
        """Add `Bounded.squashed`."""
        half = self.array(0.5 * (to_array(high) - to_array(low)))
        unit = self.add("Add", self.add("Tanh", value), self.array(np.float32(1.0)))
        return self.add("Add", self.array(low), self.add("Mul", unit, half))

    def rescaled(self, states: str, scale: np.ndarray) -> str:
        """Add the conversion of states [n, S] to another scale [2, S]."""
        moved = self.add("Add", self.add("Mul", states, self.array(scale[0])), self.array(scale[1]))
        return self.add("Clip", moved, self.array(np.float32(-CLIP)), self.array(np.float32(CLIP)))

    def q(self, states: str, candidates: str, network: QFunction) -> str:
        """Add Q [n, k] of states [n, S] and candidates [n, k, A]."""
        return self.add("Squeeze", self.over_items(states, candidates, network), self.array(np.array([-1])))

    def over_items(self, states: str, candidates: str, network: ItemNetwork) -> str:
        """Add the outputs [n, k, O] of states [n, S] and candidates [n, k, A]."""
        others, width = candidates, network.products.shape[1]
        if len(network.products):
            places = to_array(network.products)
            parts = self.add("Gather", states, self.array(places.ravel()), axis=1)
            parts = self.add("Reshape", parts, self.array(np.array([-1, *places.shape])))
            inner = self.add("MatMul", candidates, self.add("Transpose", parts, perm=[0, 2, 1]))
            others, width = self.add("Concat", candidates, inner, axis=2), width + len(places)
        return self.given(states, others, width, network.net.layers)

    def model(self, inputs: dict[str, list[Any]], output: str, name: str, shape: Sequence[Any]) -> Any:
        """Return the checked model with the value `output` under `name`."""
        self.nodes.append(helper.make_node("Identity", [output], [name]))
        ports = [helper.make_tensor_value_info(port, TensorProto.FLOAT, size) for port, size in inputs.items()]
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        graph = helper.make_graph(self.nodes, "prefrec", ports, [result], self.arrays)
        opset = [helper.make_opsetid("", _OPSET)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="prefrec_ray")
        onnx.checker.check_model(made, full_check=True)
        return made


def _actor(policy: Policy) -> Any:
    actor, graph = policy.actor, _Graph()
    if isinstance(actor, CandidateActor):
        value = _best_candidate(graph, actor)
    elif isinstance(actor, DeterministicActor):
        value = graph.squashed(graph.mlp("states", actor.net.layers), actor.low, actor.high)
    else:
        raise UserError(f"policy: found an actor of kind '{actor.kind}'; expected mlp, gaussian or candidates")
    width, actions = actor.widths
    return graph.model({"states": ["n", width]}, value, "actions", ["n", actions])


def _best_candidate(graph: _Graph, actor: CandidateActor) -> str:
    """Add `CandidateActor.forward` for all candidates at once."""
    low, high = actor.low, actor.high
    latents, width = graph.array(actor.latents), actor.latents.shape[1]
    proposed = graph.squashed(graph.given("states", latents, width, actor.decoder.net.layers), low, high)
    moved = graph.add("Tanh", graph.given("states", proposed, len(low), actor.perturbation.net.layers))
    moved = graph.add("Add", proposed, graph.add("Mul", graph.array(actor.perturbation.reach), moved))
    moved = graph.add("Min", graph.add("Max", moved, graph.array(low)), graph.array(high))
    best = graph.add("ArgMax", graph.q("states", moved, actor.critic), axis=1, keepdims=1, select_last_index=0)
    chosen = graph.add("Unsqueeze", best, graph.array(np.array([2])))
    chosen = graph.add("Tile", chosen, graph.array(np.array([1, 1, len(low)])))
    return graph.add("Squeeze", graph.add("GatherElements", moved, chosen, axis=1), graph.array(np.array([1])))


def _critic(critic: Critic, policy: Policy) -> Any:
    graph = _Graph()
    value = _q(graph, critic)
    width, actions = policy.actor.widths
    inputs = {"states": ["n", width], "candidates": ["n", "k", actions]}
    return graph.model(inputs, value, "scores", ["n", "k"])


def _q(graph: _Graph, critic: Critic) -> str:
    scales = [None] * len(critic.networks) if critic.scales is None else critic.scales
    seen = ["states" if scale is None else graph.rescaled("states", scale) for scale in scales]
    each = [graph.q(own, "candidates", network) for own, network in zip(seen, critic.networks, strict=True)]
    return graph.add("Mean", *each) if len(each) > 1 else each[0]
