"""An evaluation of policies and a data set by URI, as `prefrec evaluate` runs it."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import ray

from prefrec_ray import runtime, storage
from prefrec_ray.dataset import PreparedDataset, check_complete
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.behavior import start_clone
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.model import start_models
from prefrec_ray.evaluation.estimators.request import EvaluationRequest, adapted
from prefrec_ray.evaluation.online import RollOut, evaluate_online
from prefrec_ray.evaluation.results.names import CURRENT, IMITATION, short_names
from prefrec_ray.evaluation.results.records import Evaluation, Record, write_evaluation
from prefrec_ray.evaluation.results.verdict import verdicts
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.progress import Progress, silent, step
from prefrec_ray.users.ensemble import Fits
from prefrec_ray.users.reading import too_short

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationRun:
    """Inputs and output of an evaluation: `policies` are bundles, or sweeps for all their bundles.

    `online`: also roll out in the simulator that made the logs. `output`: a file; None for evaluation.json in the
    folder of the policies. `replace`: overwrite another evaluation in this file. `needs_current` False: if
    the current policy has other states or embeddings, warn and evaluate without it.
    """

    policies: Sequence[str]
    dataset: str
    settings: EvaluateSettings = field(default_factory=EvaluateSettings)
    online: bool = False
    output: str | None = None
    replace: bool = False
    needs_current: bool = True

    @cached_property
    def targets(self) -> list[str]:
        """Return the policies and sweeps without aliases: a folder with the name of an alias would hide it."""
        return [storage.followed(uri) for uri in self.policies]

    @cached_property
    def bundles(self) -> list[str]:
        """Return every policy's URI. Raises `UserError` for a sweep without a policy."""
        return [bundle for uri in self.targets for bundle in bundles_of(uri)]

    @cached_property
    def file(self) -> str:
        """Return the output file: RUN/evaluation.json for RUN/policy, RUN/OTHER/evaluation.json for another policy."""
        if self.output:
            return self.output
        alone = len(self.targets) == 1 and posixpath.basename(self.targets[0].rstrip("/")) != "policy"
        return storage.join(self.targets[0] if alone else self.folder, "evaluation.json")

    @property
    def folder(self) -> str:
        """Return the folder for a report on these policies: a run, a sweep, or the folder of several runs."""
        sweep = len(self.targets) == 1 and self.bundles != self.targets
        return self.targets[0] if sweep else beside(self.bundles)

    @property
    def inputs(self) -> dict[str, Any]:
        """Return the inputs that identify an evaluation, as in evaluation.json."""
        return {
            "policies": [storage.absolute(uri) for uri in self.bundles],
            "dataset": storage.absolute(self.dataset),
            "online": self.online,
            "settings": self.settings.model_dump(mode="json"),
        }

    def check_file(self) -> None:
        """Raise `UserError` if `file` contains another evaluation, which would be lost."""
        if self.replace or not storage.exists(self.file):
            return
        before = storage.read_json(self.file)
        known = before.get("inputs") if isinstance(before, dict) else None
        known = known if isinstance(known, dict) else {}
        changed = [name for name, value in self.inputs.items() if known.get(name) != value]
        if changed:
            raise UserError(
                f"{self.file}: contains an evaluation with other {changed[0]}; name a new file by --output FILE, or "
                "remove it"
            )


class EvaluationFits(NamedTuple):
    """Fits of an evaluation in the background: a `BehaviorClone`, and models of users unless they are not used."""

    clone: ray.ObjectRef
    models: Fits | None

    @classmethod
    def start(cls, dataset: PreparedDataset, settings: EvaluateSettings) -> EvaluationFits:
        """Start the fits; Ray must run. Raises `UserError` if histories are too short for models of users."""
        # First, because the pass over the split waits for the clone only, which uses one processor.
        clone = start_clone(dataset, settings.seed)
        return cls(clone, start_models(dataset, settings) if "model" in settings.estimators else None)


def run_evaluation(run: EvaluationRun, progress: Progress = silent, fits: EvaluationFits | None = None) -> Evaluation:
    """Evaluate, write `run.file` and return its content. Each policy is scored on the task of its training.

    `fits`: with the settings of `run`, if they were started before. Raises `UserError`: a missing policy or data set, a
    policy given twice, a current policy of another platform, `online` for logs that are not simulated, another
    evaluation in `run.file`.
    """
    run.check_file()
    dataset = PreparedDataset.open(storage.absolute(run.dataset))
    check_complete(dataset)
    if run.online and dataset.metadata.world is None:
        raise UserError(f"{run.dataset}: --online rolls out in the simulator, which did not make these logs")
    bundles = load_named(run.bundles)
    items = dataset.items()  # once: a million items take a second
    policies = {name: adapted(policy, dataset, items, f"policy '{name}'") for name, (_, policy) in bundles.items()}
    trained_for = {name: policy.task for name, policy in policies.items()}
    current = None
    if run.settings.current is not None:
        bundle = storage.followed(run.settings.current)  # once: an alias may change
        try:
            current = adapted(Policy.load(bundle), dataset, items, f"evaluate.current: policy {bundle}")
            bundles = {**bundles, CURRENT: (bundle, current)}
        except UserError as error:
            if run.needs_current:
                raise
            _LOG.warning("not compared with the current policy: %s", error)
            run = replace(run, settings=run.settings.model_copy(update={"current": None}))
    storage.make_room(run.file)  # before the work, so that a missing permission is reported early
    with step(progress, "start Ray"):
        runtime.start_ray()
    settings = _possible(run.settings, dataset)
    fits = fits or EvaluationFits.start(dataset, settings)
    with step(progress, "fit the behavior clone"):
        clone = ray.get(fits.clone)
    tasks = list(dict.fromkeys(trained_for.values()))
    request = EvaluationRequest(dataset, policies, tasks, clone, settings, trained_for, current)
    evaluation = evaluate(request, progress, fits.models)
    records = list(evaluation.records)
    if run.online:
        how = RollOut(run.settings.split, seed=run.settings.seed)
        records += evaluate_online(dataset, policies, tasks, how, {IMITATION: clone.policy}, progress)
    kept = [_with_bundle(r, bundles) for r in records if trained_for.get(r.policy, r.task) == r.task]
    evaluation = evaluation.model_copy(update={"dataset": run.dataset, "records": tuple(kept), "inputs": run.inputs})
    evaluation = evaluation.model_copy(update={"verdicts": verdicts(evaluation)})
    write_evaluation(run.file, evaluation)
    return evaluation


def _possible(settings: EvaluateSettings, dataset: PreparedDataset) -> EvaluateSettings:
    """Return the settings without `model` if histories are too short for it, unless it was requested.

    Guard-rails and the comparison with the current policy need it.
    """
    requested = "estimators" in settings.model_fields_set or settings.guard_rails or settings.current is not None
    if requested or too_short(dataset, [settings.split]) is None:
        return settings
    return settings.model_copy(update={"estimators": ("ncis",)})


def bundles_of(uri: str) -> list[str]:
    """Return the bundle `uri` itself, or the policies of all trials of a sweep, in the order of their numbers.

    Raises `UserError` for a sweep without a policy.
    """
    if not storage.exists(storage.join(uri, "sweep.json")):
        return [uri]
    folders = storage.list_folders(storage.join(uri, "policies"))
    if not folders:
        raise UserError(f"{uri}: no trial of this sweep has a policy (expected {uri}/policies/TRIAL); let it end first")
    return sorted(folders, key=lambda folder: folder.rpartition("_")[2].zfill(9))


def beside(policies: Sequence[str]) -> str:
    """Return the folder that contains all of `policies`: a run for one policy, the folder of the runs for several.

    Raises `UserError` for policies in several stores, which have no common folder.
    """
    parents = [posixpath.dirname(policy.rstrip("/")) or "." for policy in policies]
    if len(set(parents)) == 1:
        return parents[0]
    if any(parent.startswith("/") or "://" in parent for parent in parents):
        parents = [storage.absolute(parent) for parent in parents]
    stores = [parent.split("/")[:3] if "://" in parent else [] for parent in parents]  # scheme and bucket
    other = next((place for place, store in enumerate(stores) if store != stores[0]), None)
    if other is not None:
        raise UserError(f"{policies[0]} and {policies[other]}: no folder contains both; expected --output FILE")
    folder = "/".join(posixpath.commonprefix([parent.split("/") for parent in parents]))
    return folder or ("/" if parents[0].startswith("/") else ".")


def load_named(uris: Sequence[str]) -> dict[str, tuple[str, Policy]]:
    """Return URI and policy of each bundle, by a short name. Raises `UserError` for a bundle given twice."""
    policies = [Policy.load(uri) for uri in uris]
    last = [uri.rstrip("/").rpartition("/")[2] for uri in uris]  # distinguishes trials of a sweep
    differ = len(set(last)) == len(last) > 1
    names = short_names([_description(policy) for policy in policies], last if differ else uris)
    if len(set(names)) < len(names):
        twice = next(uri for uri, name in zip(uris, names, strict=True) if names.count(name) > 1)
        raise UserError(f"{twice}: given twice")
    return dict(zip(names, zip(uris, policies, strict=True), strict=True))


def _with_bundle(record: Record, bundles: Mapping[str, tuple[str, Policy]]) -> Record:
    """Return the record with the bundle of its policy, or of the policy that its control was made from."""
    if record.policy not in bundles:
        return record
    uri, policy = bundles[record.policy]
    return record.model_copy(update={"bundle": uri, "provenance": _description(policy)})


def _description(policy: Policy) -> dict[str, Any]:
    """Return the description of a policy from which its short name is made."""
    serving = policy.serving
    rule = {
        key: getattr(serving, key)
        for key in ("rule", "scores", "variety", "repetition", "repetition_window", "temperature")
    }
    return {**policy.provenance, **rule}
