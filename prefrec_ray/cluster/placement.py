"""Resource demands of the sections of a YAML, and their placement on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Bundle = Mapping[str, float]


@dataclass(frozen=True)
class Demand:
    """Bundles of resources that are needed at once, each whole on one node. `what` is the process that needs them."""

    what: str
    bundles: tuple[Bundle, ...]
    in_driver: bool = False  # True if the job's own process trains


def demands(settings: Mapping[str, Any]) -> list[Demand]:
    """Return the least demands of the parsed sections `settings`: the largest trial of a sweep, one CPU for data."""
    needs = [Demand(section, ({"CPU": 1.0},)) for section in ("simulate", "prepare") if section in settings]
    if "train" in settings:
        needs.append(_of_train(settings["train"]))
    if "tune" in settings:
        needs.append(_of_tune(settings["tune"]))
    return needs


def _of_train(settings: Any) -> Demand:
    config = settings.training()
    learner = _asked(config.learner_resources)
    if not config.num_learners:
        data_tasks = {"CPU": 1.0}
        return Demand("train", (data_tasks, learner) if learner else (data_tasks,), in_driver=True)
    return Demand(f"train ({config.num_learners} learners)", (learner,) * int(config.num_learners))


def _of_tune(settings: Any) -> Demand:
    from prefrec_ray.runs.tuning import space
    from prefrec_ray.runs.tuning.trial import resources

    trials = space.corners(settings) if settings.searcher == "optuna" else space.trials(settings)
    by_trial = [(trial, resources({"trial": trial}, settings).bundles) for trial in trials]
    trial, bundles = max(by_trial, key=lambda pair: sum(sum(bundle.values()) for bundle in pair[1]))
    return Demand(f"tune (trial {trial['name']})", tuple(_asked(bundle) for bundle in bundles))


def _asked(bundle: Bundle) -> Bundle:
    return {kind: float(amount) for kind, amount in bundle.items() if amount}


def unplaced(demand: Demand, nodes: Sequence[Bundle]) -> str | None:
    """Return the resources that `nodes` lack for `demand`; None if it fits. The largest bundles are placed first."""
    free = [dict(node) for node in nodes]
    for bundle in sorted(demand.bundles, key=lambda bundle: -sum(bundle.values())):
        if not any(_fits(bundle, node) for node in nodes):
            return f"no single node has {_text(bundle)}{_lacking(bundle, nodes)}"
        home = next((node for node in free if _fits(bundle, node)), None)
        if home is None:
            return f"{len(demand.bundles)} times {_text(bundle)} do not fit on the nodes at once"
        for kind, amount in bundle.items():
            home[kind] -= amount
    return None


def _fits(bundle: Bundle, node: Bundle) -> bool:
    return all(node.get(kind, 0.0) >= amount for kind, amount in bundle.items())


def _lacking(bundle: Bundle, nodes: Sequence[Bundle]) -> str:
    for kind, amount in bundle.items():
        most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if most < amount:
            return f" (the most {kind} of one node is {most:g})"
    return ""


def _text(bundle: Bundle) -> str:
    return " + ".join(f"{amount:g} {kind}" for kind, amount in bundle.items())
