"""Section about teachers: the share of their labels that rules without recommendations predict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.inspection.teachers import Diagnosis, diagnose_dataset
from prefrec_ray.reports import html
from prefrec_ray.reports.load import Run

EXPLANATION = (
    "A teacher labels which of two segments of history is preferred. Between users: share of the variance of scores "
    "between users. Sessions only, user only: share of labels (without ties) that a rule predicts from the number of "
    "sessions, or from the user, and without the items. If such a rule predicts most labels, they are about the user "
    "or the length of sessions, and not about the impressions."
)
HEAD = ("teacher", "task", "ties", "between users", "sessions only", "user only")


def teachers_section(runs: Sequence[Run]) -> html.Section | None:
    """Return one row per task and teacher, for every data set that exists, then the runs' reward models."""
    parts: list[html.Block | None] = []
    uris = list(dict.fromkeys(str(run.config["dataset"]) for run in runs))
    for uri in uris:
        mine = [run for run in runs if str(run.config["dataset"]) == uri]
        tasks = list(dict.fromkeys(str(run.config["task"]) for run in mine))
        try:
            diagnoses = diagnose_dataset(PreparedDataset.open(uri), tasks)
        except UserError:
            continue  # the section on levels lists missing data sets
        used = {teacher for run in mine for teacher in _teachers(run)}
        classes = ["policy" if d.teacher in used else "" for d in diagnoses]
        parts += [
            html.Paragraph(uri, "note") if len(uris) > 1 else None,
            html.table(HEAD, rows(diagnoses), classes),
            html.Paragraph("Share of held-out labels that the runs' reward models predict after training:", "note"),
            html.table(["run", "within users", "across users"], [_reward(run) for run in mine]),
        ]
    if not parts:
        return None
    explanation = html.Paragraph(f"{EXPLANATION} Blue: teachers of these runs.", "note")
    return html.section("Teachers", explanation, *parts, folded=True)


def rows(diagnoses: Sequence[Diagnosis]) -> list[list[str]]:
    """Return the cells of each diagnosis, under `HEAD`."""
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
    """Return the last accuracy of a run's reward on held-out pairs (`within_user` or `any_users`), or None."""
    values = run.curve(f"reward/accuracy_{kind}")
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else None


def _reward(run: Run) -> list[str]:
    return [run.label, *(html.share(reward_accuracy(run, kind)) for kind in ("within_user", "any_users"))]


def _teachers(run: Run) -> list[str]:
    resolved = run.config.get("resolved") or {}
    return list(resolved.get("teachers") or [f"{resolved.get('pairing')}_{resolved.get('scoring')}"])
