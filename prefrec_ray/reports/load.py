"""Inputs of a report: runs with learning curves, their evaluations, and levels and titles of their data sets."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import is_control, short_names, subject_of
from prefrec_ray.evaluation.results.records import DIFFERENCE, Evaluation, Record, evaluation_files, read_evaluation
from prefrec_ray.evaluation.results.verdict import best_first, verdicts
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.runs.checkpoints import read_description

LEVELS = 6  # 0 to 5 (Eq. 11)

ItemId = int | str


@dataclass(frozen=True)
class Run:
    """A training run. `curves` holds a column of progress.csv each, float64 [iterations] (NaN: empty) or texts."""

    uri: str
    config: dict[str, Any]
    curves: dict[str, np.ndarray]
    label: str = ""

    def curve(self, column: str) -> np.ndarray:
        """Return the column (NaN if the run has none)."""
        return self.curves.get(column, np.full(len(self.curves["phase"]), np.nan))


def load_runs(uris: Sequence[str]) -> list[Run]:
    """Return the runs at `uris`, or one or two levels below them, in order of name.

    Raises `UserError` if none is found.
    """
    folders = dict.fromkeys(folder for uri in uris for folder in _run_folders(uri))
    runs = [load_run(folder) for folder in folders]
    labels = short_names([run.config for run in runs], [run.uri for run in runs])
    return [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]


#: Parts of an evaluation with one value per subject.
_BY_NAME = ("served", "support", "guard_rails", "verdicts")


def load_evaluation(uris: Sequence[str], runs: Sequence[Run]) -> Evaluation:
    """Return the evaluations in `uris`, and the evaluations of the policies of `runs`, as one evaluation.

    Equal records count once, and different policies of one name get different names. Raises `UserError` for evaluations
    on several data sets, whose levels cannot be compared.
    """
    labels = {storage.absolute(run.uri).rstrip("/"): run.label for run in runs}
    found = _apart(_evaluations(uris, runs), labels)
    records: dict[tuple[str, ...], Record] = {}
    by_name: dict[str, dict[str, Any]] = {key: {} for key in _BY_NAME}
    for evaluation in found:
        for record in evaluation.records:
            records.setdefault((record.task, record.estimator, record.subject, str(record.settings)), record)
        for name, known in by_name.items():
            by_name[name] = getattr(evaluation, name) | known
    logs = {storage.absolute(one.dataset) for one in found if one.dataset}
    if len(logs) > 1:
        raise UserError(f"found evaluations on several data sets ({', '.join(sorted(logs))}); expected one")
    common = {}
    for key in ("split", "dataset"):
        values = {getattr(evaluation, key) for evaluation in found}
        common[key] = values.pop() if len(values) == 1 else None
    common["difference"] = min((evaluation.difference for evaluation in found), default=DIFFERENCE)
    whole = Evaluation.model_validate({**common, "records": tuple(records.values()), **by_name})
    return whole.model_copy(update={"verdicts": best_first(whole, whole.verdicts)})


def _apart(evaluations: Sequence[Evaluation], labels: Mapping[str, str]) -> list[Evaluation]:
    """Return the evaluations, with policies of equal names renamed by their run, or by their path without a run.

    `labels`: names of the runs, by absolute URI. Policies of one name are one policy if they have the same place and
    settings, or if their place is not known.
    """
    policies = [{one.subject: one for one in of.records if one.role == "policy" and one.bundle} for of in evaluations]
    places: dict[str, set[tuple[str | None, str]]] = {}
    for by_name in policies:
        for name, record in by_name.items():
            places.setdefault(name, set()).add((record.bundle, str(record.provenance)))

    def name_of(record: Record) -> str:
        place = str(record.bundle).rstrip("/")
        return labels.get(storage.absolute(place).removesuffix("/policy"), place)

    return [
        _renamed(one, {name: name_of(record) for name, record in by_name.items() if len(places[name]) > 1})
        for one, by_name in zip(evaluations, policies, strict=True)
    ]


def _renamed(evaluation: Evaluation, names: Mapping[str, str]) -> Evaluation:
    """Return the evaluation with policies, and the controls made from them, called by `names`."""

    def new(subject: str) -> str:
        policy = subject_of(subject)
        return subject.removesuffix(policy) + names.get(policy, policy)

    records = [
        record.model_copy(update={"subject": new(record.subject), "best": record.best and new(record.best)})
        for record in evaluation.records
    ]
    by_name = {key: {new(name): value for name, value in getattr(evaluation, key).items()} for key in _BY_NAME}
    return evaluation.model_copy(update={"records": tuple(records), **by_name})


def read_judged(file: str) -> Evaluation:
    """Return an evaluation.json; missing verdicts of an older file are made from its records."""
    evaluation = read_evaluation(file)
    return evaluation if evaluation.verdicts else evaluation.model_copy(update={"verdicts": verdicts(evaluation)})


def _evaluations(uris: Sequence[str], runs: Sequence[Run]) -> list[Evaluation]:
    """Return the evaluations in `uris`, and the evaluations of the policies of `runs`.

    An evaluation in the folder above a run may have policies of other runs, which are left out.
    """
    named = [storage.join(storage.absolute(uri), "evaluation.json") for uri in uris]
    places = [storage.absolute(run.uri) for run in runs]
    policies = [one for place in places for one in (storage.join(place, "policy"), *storage.list_folders(place))]
    files = [*filter(storage.exists, named), *(file for policy in policies for file in evaluation_files(policy))]
    found = []
    for file in dict.fromkeys(files):
        evaluation = read_judged(file)
        if file not in named and not file.startswith(tuple(f"{place}/" for place in places)):
            own = {name for place in places for name in evaluation.policies_in(place)}
            if not own:
                continue
            evaluation = _only(evaluation, own)
        found.append(evaluation)
    return found


def _only(evaluation: Evaluation, policies: Collection[str]) -> Evaluation:
    """Return the parts about `policies` and the controls."""

    def kept(name: str) -> bool:
        return subject_of(name) in policies or is_control(subject_of(name))

    records = tuple(record for record in evaluation.records if kept(record.subject))
    by_name = {key: {k: v for k, v in getattr(evaluation, key).items() if kept(k)} for key in _BY_NAME}
    return evaluation.model_copy(update={"records": records, **by_name})


def level_shares(uri: str) -> dict[str, np.ndarray]:
    """Return the shares float64 [6] of all sessions at levels 0 to 5, in "depth" and in "frequency".

    Sessions are counted file by file. A session without a revisit time has no frequency level and is excluded there.
    """
    dataset = PreparedDataset.open(uri)
    counts = {name: np.zeros(LEVELS, dtype=np.int64) for name in ("depth", "frequency")}
    for file in dataset.files("sessions"):
        table = dataset.read(file, columns=[f"level_{name}" for name in counts])
        for name, count in counts.items():
            level = table[f"level_{name}"].to_numpy().astype(np.float64)
            count += np.bincount(level[np.isfinite(level)].astype(np.int64), minlength=LEVELS)
    return {name: count / max(1, count.sum()) for name, count in counts.items()}


def item_titles(uris: Iterable[str], ids: Sequence[ItemId]) -> dict[ItemId, str]:
    """Return the titles of the `ids` with one in an items.parquet in the folders `uris` (policies, data sets)."""
    titles: dict[ItemId, str] = {}
    for uri in uris:
        missing = [item for item in dict.fromkeys(ids) if item not in titles]
        file = storage.join(uri, "items.parquet")
        if missing and storage.exists(file):
            titles |= _titles_in(file, missing)
    return titles


def _titles_in(file: str, ids: Sequence[ItemId]) -> dict[ItemId, str]:
    try:
        table = ItemTable.load(file)
        rows = table.find(np.array(ids))
    except UserError:  # ids of another kind, or damaged: a page without titles is still a page
        return {}
    if table.about is None or "title" not in table.about.column_names:
        return {}
    column = table.about["title"]
    found = {item: column[row].as_py() for item, row in zip(ids, rows.tolist(), strict=True) if row >= 0}
    return {item: title for item, title in found.items() if title}


def title_of(item_id: ItemId, titles: Mapping[ItemId, str]) -> str:
    """Return the title of an item, or its id if it has none."""
    return titles.get(item_id, f"item {item_id}")


def dataset_name(uri: str) -> str:
    """Return the name of a data set, without its folder."""
    parts = [part for part in uri.split("/") if part]
    return "/".join(parts[-2:]) if parts[-1:] == ["dataset"] else "".join(parts[-1:])


def _run_folders(uri: str) -> list[str]:
    root = str(uri).rstrip("/")
    if not storage.exists(root):
        raise UserError(f"{root}: no such folder; expected a run, or a folder with runs")
    run_folders: list[str] = []
    level = [root]
    for _ in range(3):
        run_folders += [folder for folder in level if _is_run(folder)]
        level = [below for folder in level if not _is_run(folder) for below in storage.list_folders(folder)]
    if not run_folders:
        raise UserError(f"{root}: contains no run (expected config.json and progress.csv in it, or in a folder below)")
    return run_folders


def _is_run(folder: str) -> bool:
    return all(storage.exists(storage.join(folder, name)) for name in ("config.json", "progress.csv"))


def load_run(folder: str) -> Run:
    """Return the run in `folder`, without a label. Raises `UserError` if a file is missing or has no iteration."""
    config = read_description(storage.join(folder, "config.json"), ("task", "dataset"))
    rows = list(csv.DictReader(io.StringIO(storage.read_text(storage.join(folder, "progress.csv")))))
    if not rows:
        raise UserError(f"{folder}/progress.csv: no iteration yet; let the run continue before its report")
    try:
        curves = {
            name: np.array([row[name] if name == "phase" else float(row[name] or "nan") for row in rows])
            for name in rows[0]
        }
    except (ValueError, TypeError) as error:  # a word instead of a number, or more values than columns
        raise UserError(f"{folder}/progress.csv: expected the curves of a run ({error})") from error
    if "phase" not in curves:
        raise UserError(f"{folder}/progress.csv: column 'phase' is missing; expected the curves of a run")
    return Run(folder, config, curves)
