"""Names of policies that were evaluated one by one: different policies of one name get different names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefrec_ray import storage
from prefrec_ray.evaluation.results.names import subject_of
from prefrec_ray.evaluation.results.records import Evaluation, Record


def told_apart(evaluations: Sequence[Evaluation], labels: Mapping[str, str]) -> list[Evaluation]:
    """Return the evaluations, with policies of equal names renamed by their run, or by their path without a run.

    `labels`: names of the runs, by absolute URI. Policies of one name without a known place count as one policy.
    """
    bearers: dict[str, list[tuple[Evaluation, Record]]] = {}
    for evaluation in evaluations:
        for name, record in _policies(evaluation).items():
            others = bearers.setdefault(name, [])
            if not any(_same(name, (evaluation, record), other) for other in others):
                others.append((evaluation, record))
    shared = {name for name, others in bearers.items() if len(others) > 1}
    return [
        _renamed(one, {name: _name(record, labels) for name, record in _policies(one).items() if name in shared})
        for one in evaluations
    ]


def _policies(evaluation: Evaluation) -> dict[str, Record]:
    """Return one record of each policy with a known place."""
    return {record.subject: record for record in evaluation.records if record.role == "policy" and record.bundle}


def _same(name: str, one: tuple[Evaluation, Record], other: tuple[Evaluation, Record]) -> bool:
    """Return whether both are one policy: they have the same place and settings, or serve the same items."""
    told = [(record.bundle, record.provenance) for _, record in (one, other)]
    served = [evaluation.served.get(name) for evaluation, _ in (one, other)]
    return told[0] == told[1] or (served[0] is not None and served[0] == served[1])


def _name(record: Record, labels: Mapping[str, str]) -> str:
    place = str(record.bundle).rstrip("/")
    return labels.get(storage.absolute(place).removesuffix("/policy"), place)


def _renamed(evaluation: Evaluation, names: Mapping[str, str]) -> Evaluation:
    """Return the evaluation with policies, and the controls made from them, called by `names`."""
    if not names:
        return evaluation

    def new(subject: str) -> str:
        policy = subject_of(subject)
        return subject.removesuffix(policy) + names.get(policy, policy)

    records = [
        record.model_copy(update={"subject": new(record.subject), "best": record.best and new(record.best)})
        for record in evaluation.records
    ]
    by_name = {
        "served": {new(name): served for name, served in evaluation.served.items()},
        "support": {new(name): support for name, support in evaluation.support.items()},
        "verdicts": {new(name): verdict for name, verdict in evaluation.verdicts.items()},
    }
    return evaluation.model_copy(update={"records": tuple(records), **by_name})
