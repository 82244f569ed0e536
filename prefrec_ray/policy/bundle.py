"""Policy bundle: networks, their inputs, and the serving rule, checked against each other and stored in plain files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy.networks.actors import Actor, Density, DeterministicActor, GaussianActor
from prefrec_ray.policy.networks.bundled import SCHEMA_VERSION, Description, load_actor, save_actor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.settings import TASKS, Task, parse
from prefrec_ray.storage import checksums

#: The paper's rule: the item nearest to the actor's action.
DETERMINISTIC = ServingSettings(rule="best", candidates="nearest", count=1, variety=0.0)


@dataclass(frozen=True)
class Bundle:
    """Content of a policy bundle; see `Policy`. Raises `UserError` as a policy does."""

    actor: Actor
    state: StateDefinition
    normaliser: Normaliser
    items: ItemTable
    serving: ServingSettings = DETERMINISTIC
    provenance: Mapping[str, Any] = field(default_factory=dict)
    critic: Critic | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "serving", self.serving.resolved())  # for a policy made by hand
        width, actions = self.actor.widths
        if not actions == self.state.action_dim == self.items.embeddings.shape[1]:
            raise UserError(
                f"policy: the actor gives {actions} numbers, its states hold {self.state.action_dim} of an item, and "
                f"the items have {self.items.embeddings.shape[1]}; expected one number"
            )
        if width != self.state.width:
            raise UserError(f"policy: the actor takes {width} numbers, its states have {self.state.width}")
        if len(self.normaliser.mean) != width:
            raise UserError(
                f"policy: the normaliser has {len(self.normaliser.mean)} numbers; expected {width} as in the states"
            )
        if self.critic is not None and self.critic.width != sum(self.actor.widths):
            raise UserError(f"policy: the critic takes {self.critic.width} numbers; expected {sum(self.actor.widths)}")
        if self.serving.scores == "feedback" and (self.critic is None or self.critic.worth is None):
            raise UserError("policy: found scores: feedback; expected a critic with expected feedback, or scores: q")
        if self.scorer is None and not self.always_nearest:
            raise UserError(
                "policy: neither a critic nor the density of its actor scores items; "
                "expected serving: {rule: best, candidates: nearest, count: 1}"
            )

    def __repr__(self) -> str:
        origin = [str(self.provenance[name]) for name in ("method", "recipe", "task") if name in self.provenance]
        size = f"{len(self.items)} items, states of {self.state.width} numbers"
        return f"<{' '.join([type(self).__name__, *origin])}: {size}>"

    @property
    def scorer(self) -> Critic | Density | None:
        """Return the network that scores items, None without one."""
        if self.critic is not None:
            return self.critic.by_feedback if self.serving.scores == "feedback" else self.critic
        known = isinstance(self.actor, GaussianActor) or self.deviation is not None
        return Density(self.actor, self.deviation) if known and isinstance(self.actor, DeterministicActor) else None

    @property
    def always_nearest(self) -> bool:
        """Return True if it always serves the item nearest to the action, as the paper's deterministic policy does."""
        return self.serving.rule == "best" and self.serving.candidates == "nearest" and self.serving.count == 1

    @property
    def task(self) -> Task:
        """Return the task of the training. Raises `UserError` if it is missing in the provenance."""
        task = self.provenance.get("task")
        if task not in TASKS:
            raise UserError(f"policy: provenance: key 'task': found {task!r}; expected one of {', '.join(TASKS)}")
        return task

    @property
    def low(self) -> np.ndarray:
        """Return the lower bounds of the actions [A]."""
        return self.actor.low.numpy()

    @property
    def high(self) -> np.ndarray:
        """Return the upper bounds of the actions [A]."""
        return self.actor.high.numpy()

    def with_items(self, items: ItemTable | pa.Table) -> Self:
        """Return this policy with other items, without training; their embeddings must be made as in the training.

        If the common items have other codes of kinds, the effects of kinds get these codes (`Critic.for_items`).
        Raises `UserError` for a table that is not of items, ids of another type, or embeddings of another width.
        """
        table = items if isinstance(items, ItemTable) else ItemTable.from_table(items)
        critic = self.critic
        if critic is not None and critic.kind_effects and not _same_kinds(self.items, table):
            critic = critic.for_items(self.items, table)
        return replace(self, items=table, critic=critic)

    def under(self, **rule: Any) -> Self:
        """Return the same networks under another serving rule, with these keys of `serving` changed."""
        return replace(self, serving=self.serving.model_copy(update=rule))

    def save(self, uri: str) -> None:
        """Write the bundle, all or nothing.

        The files are policy.json, actor.safetensors, items.parquet, critic.safetensors if it has a critic, and
        manifest.json with their checksums. Raises `UserError` if `uri` exists.
        """
        description: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "serving": self.serving.model_dump(mode="json"),
            "state": self.state.model_dump(mode="json"),
            "normaliser": self.normaliser.to_dict(),
            "provenance": dict(self.provenance),
        }
        with storage.staged(uri, "policy.json") as folder:
            if self.deviation is not None:
                description["deviation"] = self.deviation
            description["actor"] = save_actor(storage.join(folder, "actor.safetensors"), self.actor)
            if self.critic is not None:
                description["critic"] = self.critic.save(storage.join(folder, "critic.safetensors"))
            self.items.save(storage.join(folder, "items.parquet"))
            storage.write_json(storage.join(folder, "policy.json"), description)
            checksums.seal(folder)

    @classmethod
    def load(cls, uri: str) -> Self:
        """Load a bundle, or the current target if `uri` is an alias (storage/alias.py).

        Raises `UserError` for a missing, unreadable or damaged file, another schema version, and widths that disagree.
        """
        uri = storage.followed(uri)
        path = storage.join(uri, "policy.json")
        content = storage.read_versioned(path, SCHEMA_VERSION, " for this version of prefrec_ray")
        stored = parse(Description, content, path)
        try:
            actor = load_actor(storage.join(uri, "actor.safetensors"), stored.actor)
            items = ItemTable.load(storage.join(uri, "items.parquet"))
            critic = None
            if stored.critic:
                critic = Critic.load(storage.join(uri, "critic.safetensors"), stored.critic, actor.widths)
            normaliser = Normaliser.from_dict(stored.normaliser, path)
            bundle = cls(
                actor, stored.state, normaliser, items, stored.serving, stored.provenance, critic, stored.deviation
            )
        except UserError as error:
            line = str(error)  # errors of several files name none of them; policy.json lists their widths
            raise UserError(
                line if line.startswith(str(uri)) else f"{path}: {line.removeprefix('policy: ')}"
            ) from error
        flaw = None
        if storage.exists(storage.join(uri, checksums.MANIFEST)):
            critics = ["critic.safetensors"] if stored.critic else []
            flaw = checksums.damage(uri, ["policy.json", "actor.safetensors", "items.parquet", *critics])
        if flaw is not None:
            raise UserError(
                f"{uri}: {flaw}; expected the files of the bundle unchanged (after a change by hand remove"
                f" {checksums.MANIFEST})"
            )
        return bundle


def _same_kinds(items: ItemTable, other: ItemTable) -> bool:
    """Return True if the items in both tables have the same codes of kinds."""
    if items.kind_codes is None or other.kind_codes is None:
        return False
    rows = items.find(other.ids)
    return np.array_equal(other.kind_codes[rows >= 0], items.kind_codes[rows[rows >= 0]])
