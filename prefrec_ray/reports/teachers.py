"""The report's section about teachers: whether the labels that runs learned from are about what was recommended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.inspection.teachers import Diagnosis, diagnose_dataset
from prefrec_ray.reports import html
from prefrec_ray.reports.load import Run

EXPLANATION = (
    "Between users: share of the variance of a segment's score that lies between users. Sessions alone, user alone: "
    "share of the labels (without ties) that a rule gets right which counts sessions, or knows the user, and sees no "
    "action. Labels that such a rule predicts may be about the user, or the length of sessions, not what was served."
)
HEAD = ("teacher", "task", "ties", "between users", "sessions alone", "user alone")


def teachers_section(runs: Sequence[Run]) -> html.Section | None:
    """One row a task of the runs and teacher, for every data set that is still there; then the runs' reward models."""
    parts: list[html.Block | None] = []
    uris = list(dict.fromkeys(str(run.config["dataset"]) for run in runs))
    for uri in uris:
        mine = [run for run in runs if str(run.config["dataset"]) == uri]
        tasks = list(dict.fromkeys(str(run.config["task"]) for run in mine))
        try:
            diagnoses = diagnose_dataset(PreparedDataset.open(uri), tasks)
        except UserError:
            continue  # the section on levels says which data sets are missing
        used = {teacher for run in mine for teacher in _teachers(run)}
        classes = ["policy" if d.teacher in used else "" for d in diagnoses]
        parts += [
            html.Paragraph(uri, "note") if len(uris) > 1 else None,
            html.table(HEAD, rows(diagnoses), classes),
            html.Paragraph("What the runs' rewards get right of held-out labels, in the end:", "note"),
            html.table(["run", "within users", "across users"], [_reward(run) for run in mine]),
        ]
    if not parts:
        return None
    explanation = html.Paragraph(f"{EXPLANATION} Blue: whom runs learned from.", "note")
    return html.section("Teachers", explanation, *parts, folded=True)


def rows(diagnoses: Sequence[Diagnosis]) -> list[list[str]]:
    """The cells of each diagnosis, under `HEAD`."""
    return [
        [
            d.teacher,
            d.task,
            html.share(d.ties),
            html.share(d.between_users),
            "–" if d.sessions is None else f"{html.share(d.sessions)} ({'more' if d.prefers_more else 'fewer'})",
            html.share(d.user),
        ]
        for d in diagnoses
    ]


def reward_accuracy(run: Run, kind: str) -> float | None:
    """The last accuracy of a run's reward on held-out pairs (`within_user` or `any_users`), or None."""
    values = run.curve(f"reward/accuracy_{kind}")
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else None


def _reward(run: Run) -> list[str]:
    return [run.label, *(html.share(reward_accuracy(run, kind)) for kind in ("within_user", "any_users"))]


def _teachers(run: Run) -> list[str]:
    resolved = run.config.get("resolved") or {}
    return list(resolved.get("teachers") or [f"{resolved.get('pairing')}_{resolved.get('scoring')}"])
