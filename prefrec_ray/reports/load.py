"""Inputs of a report: runs, their learning curves, and the evaluations of their policies."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import short_names
from prefrec_ray.evaluation.results.records import (
    Evaluation,
    PolicyVerdict,
    Record,
    ServedItems,
    Support,
    read_evaluation,
)
from prefrec_ray.evaluation.results.verdict import best_first, verdicts
from prefrec_ray.reports.apart import told_apart
from prefrec_ray.settings import Split

TEXT_COLUMNS = ("phase",)


@dataclass(frozen=True)
class Run:
    """A training run. `curves` holds a column of progress.csv each, float64 [iterations] (NaN: empty) or texts."""

    uri: str
    config: dict[str, Any]
    curves: dict[str, np.ndarray]
    label: str = ""

    def curve(self, column: str, phase: str | None = None) -> np.ndarray:
        """Return the column (NaN if the run has none), or its part in one `phase`."""
        values = self.curves.get(column, np.full(len(self.curves["phase"]), np.nan))
        return values if phase is None else values[self.curves["phase"] == phase]


def load_runs(uris: Sequence[str]) -> list[Run]:
    """Return the runs at `uris`, or one or two levels below them, in order of name.

    Raises `UserError` if none is found.
    """
    folders = [folder for uri in uris for folder in _run_folders(uri)]
    return _labelled([load_run(folder) for folder in dict.fromkeys(folders)])


def load_evaluation(uris: Sequence[str], runs: Sequence[Run]) -> Evaluation:
    """Return all evaluation.json files in `uris` and in the folders of `runs` as one evaluation.

    Equal records count once, and different policies of one name get different names.
    """
    records: dict[tuple[str, ...], Record] = {}
    served: dict[str, ServedItems] = {}
    support: dict[str, Support] = {}
    policy_verdicts: dict[str, PolicyVerdict] = {}
    splits: list[Split | None] = []
    labels = {storage.absolute(run.uri).rstrip("/"): run.label for run in runs}
    for evaluation in told_apart([read_judged(file) for file in evaluation_files(uris, runs)], labels):
        for record in evaluation.records:
            records.setdefault((record.task, record.estimator, record.subject, str(record.settings)), record)
        served = evaluation.served | served
        support = evaluation.support | support
        policy_verdicts = evaluation.verdicts | policy_verdicts
        splits.append(evaluation.split)
    split = splits[0] if len(set(splits)) == 1 else None
    whole = Evaluation(split=split, records=tuple(records.values()), served=served, support=support)
    return whole.model_copy(update={"verdicts": best_first(whole, policy_verdicts)})


def read_judged(file: str) -> Evaluation:
    """Return an evaluation.json; missing verdicts of an older file are made from its records."""
    evaluation = read_evaluation(file)
    return evaluation if evaluation.verdicts else evaluation.model_copy(update={"verdicts": verdicts(evaluation)})


def evaluation_files(uris: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """Return the evaluation.json files in `uris`, in the folders of `runs`, and in the policies of these runs."""
    policies = (folder for run in runs for folder in storage.list_folders(run.uri))
    folders = dict.fromkeys([*(str(uri).rstrip("/") for uri in uris), *(run.uri for run in runs), *policies])
    return [file for folder in folders if storage.exists(file := storage.join(folder, "evaluation.json"))]


def dataset_name(uri: str) -> str:
    """Return the name of a data set, without its folder."""
    parts = [part for part in uri.split("/") if part]
    return "/".join(parts[-2:]) if parts[-1:] == ["dataset"] else "".join(parts[-1:])


def days(files: Sequence[str]) -> str:
    """Return the first and last day (UTC) on which the files were written; empty if none exists."""
    known = sorted({f"{moment:%Y-%m-%d}" for file in files if (moment := storage.written(file)) is not None})
    return " to ".join(dict.fromkeys([*known[:1], *known[-1:]]))


def dated(text: str, when: str) -> str:
    """Return the text with its days, if they are known."""
    return f"{text} ({when})" if when else text


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
    config = storage.read_json(storage.join(folder, "config.json"))
    if not isinstance(config, dict):
        raise UserError(f"{folder}/config.json: found {type(config).__name__}; expected the settings of a run")
    for key in ("task", "dataset"):
        if key not in config:
            raise UserError(f"{folder}/config.json: key '{key}' is missing; expected the settings of a run")
    rows = list(csv.DictReader(io.StringIO(storage.read_text(storage.join(folder, "progress.csv")))))
    if not rows:
        raise UserError(f"{folder}/progress.csv: no iteration yet; let the run continue before its report")
    try:
        curves = {name: _column(name, [row[name] for row in rows]) for name in rows[0]}
    except (ValueError, TypeError) as error:  # a word instead of a number, or more values than columns
        raise UserError(f"{folder}/progress.csv: expected the curves of a run ({error})") from error
    if "phase" not in curves:
        raise UserError(f"{folder}/progress.csv: column 'phase' is missing; expected the curves of a run")
    return Run(folder, config, curves)


def _column(name: str, values: list[str]) -> np.ndarray:
    if name in TEXT_COLUMNS:
        return np.array(values)
    return np.array([float(value) if value else np.nan for value in values])


def _labelled(runs: list[Run]) -> list[Run]:
    texts = short_names([run.config for run in runs], [run.uri for run in runs])
    return [Run(run.uri, run.config, run.curves, text) for run, text in zip(runs, texts, strict=True)]
