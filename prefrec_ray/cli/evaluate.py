"""`prefrec evaluate`: what policies are worth, beside controls that know nothing."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from prefrec_ray.cli.console import Dataset, console, made
from prefrec_ray.cli.progress import Report, progress
from prefrec_ray.cli.summary import summary
from prefrec_ray.errors import UserError

SPLITS = ("validation", "test")
ESTIMATORS = ("ncis", "fqe", "dr")


def command(
    policies: Annotated[
        list[str],
        typer.Argument(metavar="POLICY...", help="Policy bundles: RUN/policy; or a SWEEP, for all its."),
    ],
    dataset: Dataset,
    split: Annotated[
        str | None, typer.Option("--split", metavar="SPLIT", help="test (as a rule) or validation.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Also roll out in the simulator that made the logs.")
    ] = False,
    config: Annotated[
        str | None, typer.Option("--config", metavar="CONFIG", help="YAML with the section `evaluate`.")
    ] = None,
    estimators: Annotated[
        str | None,
        typer.Option("--estimators", metavar="LIST", help="Of ncis, fqe, dr, by commas; ncis if left out."),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also draw ncis and dr over kernel width and cap: sensitivity.html.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FILE", help="File to write; evaluation.json beside the policies if left out."
        ),
    ] = None,
) -> None:
    """Evaluate policies by NCIS, fitted-Q and doubly robust, with intervals, placebos and controls."""
    from prefrec_ray import storage
    from prefrec_ray.cli.config import open_section
    from prefrec_ray.evaluation.settings import EvaluateSettings

    settings = open_section(config, "evaluate") if config else EvaluateSettings()
    if split is not None:
        if split not in SPLITS:
            raise UserError(f"--split: unknown split '{split}'; expected one of {', '.join(SPLITS)}")
        settings = settings.model_copy(update={"split": split})
    if estimators is not None:
        settings = settings.model_copy(update={"estimators": parse_estimators(estimators)})
    bundles = [bundle for policy in policies for bundle in bundles_of(policy)]
    folder = policies[0] if bundles != policies and len(policies) == 1 else beside(bundles)
    output = output or storage.join(folder, "evaluation.json")
    with progress(console()) as report:
        records = evaluate_policies(bundles, dataset, settings, online, output, report, sensitivity)
    if sensitivity:
        from prefrec_ray.reports.sensitivity import write_sensitivity

        write_sensitivity(records, storage.join(posixpath.dirname(output) or ".", "sensitivity.html"))
    for task in dict.fromkeys(record["task"] for record in records):
        console().print(summary(records, task))
    made("evaluation", output, f"prefrec report {posixpath.dirname(output) or '.'}")


def parse_estimators(text: str) -> tuple[str, ...]:
    """The names in `text`, each once. Raises `UserError` for an unknown one."""
    from prefrec_ray.settings import nearest

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in ESTIMATORS:
            raise UserError(f"--estimators: unknown estimator '{name}'; {nearest(name, list(ESTIMATORS))}")
    return names


def bundles_of(uri: str) -> list[str]:
    """The bundle `uri` itself, or where `uri` is a sweep the policies of all its trials, in the order of their numbers.

    Raises `UserError` for a sweep without a policy.
    """
    from prefrec_ray import storage

    if not storage.exists(storage.join(uri, "sweep.json")):
        return [uri]
    found = storage.list_folders(storage.join(uri, "policies"))
    if not found:
        raise UserError(f"{uri}: no trial of this sweep has a policy (expected {uri}/policies/TRIAL); let it end first")
    return sorted(found, key=lambda folder: folder.rpartition("_")[2].zfill(9))


def beside(policies: Sequence[str]) -> str:
    """The folder that holds all of `policies`: a run for one policy, the folder of the runs for several."""
    parents = [posixpath.dirname(policy.rstrip("/")) or "." for policy in policies]
    return parents[0] if len(set(parents)) == 1 else posixpath.commonpath(parents) or "."


def evaluate_policies(
    uris: Sequence[str],
    dataset: str,
    settings: Any,
    online: bool,
    output: str,
    report: Report,
    sensitivity: bool = False,
) -> list[dict[str, Any]]:
    """Writes `output` and returns its records. Each policy is scored on the task that it was trained for.

    A record of a policy, or of a placebo or control made from it, has what tells which policy it is: `bundle`, its URI,
    and `provenance`, with method, recipe, task and seed.

    Raises `UserError`: no policy or data set there, a policy given twice, `online` for logs of no simulator.
    """
    from prefrec_ray import runtime, storage
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.dataset.completeness import check_complete
    from prefrec_ray.evaluation.clone import fit_clone
    from prefrec_ray.evaluation.records import evaluate, write_evaluation
    from prefrec_ray.evaluation.subjects import subject_of
    from prefrec_ray.policy import Policy
    from prefrec_ray.reports.labels import labels

    prepared = PreparedDataset.open(storage.absolute(dataset))
    check_complete(prepared)
    if online and prepared.metadata.world is None:
        raise UserError(f"{dataset}: --online rolls out in the simulator, which did not make these logs")
    bundles = [Policy.load(uri) for uri in uris]
    names = labels([bundle.provenance for bundle in bundles], short(uris))
    if len(set(names)) < len(names):
        raise UserError(f"{uris[0]}: given twice")
    policies = dict(zip(names, bundles, strict=True))
    trained_for = {name: str(policy.provenance["task"]) for name, policy in policies.items()}
    tasks = list(dict.fromkeys(trained_for.values()))
    split, seed = settings.split, settings.seed
    storage.make_room(output)  # now: what cannot be written should not cost the work before
    runtime.start_ray()
    report("clone", 0, 1)
    clone = fit_clone(prepared, seed)
    report("clone", 1, 1)
    records, served = evaluate(
        prepared,
        policies,
        tasks,
        split,
        settings.ncis,
        seed,
        report,
        clone,
        estimators=settings.estimators,
        fqe=settings.fqe,
        trained_for=trained_for,
        sensitivity=sensitivity,
    )
    if online:
        from prefrec_ray.simulator.online import evaluate_online

        controls = {"imitation": clone.policy}
        records += evaluate_online(prepared, policies, tasks, split, seed=seed, progress=report, controls=controls)
    known = {
        name: {"bundle": uri, "provenance": policies[name].provenance} for name, uri in zip(names, uris, strict=True)
    }
    records = [record | known.get(subject_of(record["subject"]), {}) for record in records]
    records = [r for r in records if trained_for.get(subject_of(r["subject"]), r["task"]) == r["task"]]
    write_evaluation(output, records, served, {"dataset": dataset, "split": split})
    return records


def short(uris: Sequence[str]) -> list[str]:
    """The last part of each URI, where it tells them apart (trials of a sweep); else the URIs."""
    names = [uri.rstrip("/").rpartition("/")[2] for uri in uris]
    return names if len(set(names)) == len(names) > 1 else list(uris)
