"""Page of `prefrec report`: runs, their evaluation and their settings in one file that works offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.evaluated import evaluation_section, served_section
from prefrec_ray.reports.first import first_screen, items_shown
from prefrec_ray.reports.load import (
    Run,
    dataset_name,
    dated,
    days,
    evaluation_files,
    item_titles,
    level_shares,
    load_evaluation,
    load_runs,
)
from prefrec_ray.reports.sweep.load import is_sweep
from prefrec_ray.reports.sweep.page import write_sweep_report

CURVES = (
    ("values/reward_mean", "Mean reward", "reward per impression"),
    ("values/q_mean", "Mean Q", "discounted reward"),
    ("values/v_mean", "Mean V", "discounted reward"),
    ("losses/value_loss", "Loss of V (Eq. 9)", "expectile loss"),
    ("losses/qf_loss", "Loss of Q (Eq. 6)", "squared error"),
    ("losses/actor_loss", "Loss of the actor (Eq. 10)", "-Q"),
    ("policy/action_saturation", "Saturated action coordinates", "share"),
    ("policy/item_distance", "Distance of actions to the nearest item", "Euclidean"),
    ("policy/items_served", "Distinct items served", "items"),
    ("transitions_per_second", "Speed", "transitions / s"),
)
CURVES_NOTE = (
    "Losses of Q and V do not show convergence. They compare Q with a target made from Q itself (Eq. 6 and 9), and "
    "grow with its size: while Q sums the rewards of more steps, its loss rises. No curve shows whether a "
    "policy is good; the evaluation does."
)
#: Titles of the page, by task.
TITLES = {
    "frequency": "How soon users come back",
    "depth": "How long users stay",
    "mixture": "How soon users come back and how long they stay",
}


def write_report(uris: Sequence[str], output: str) -> None:
    """Write the page about the runs at or below `uris`, or about one sweep, to the file `output`.

    Raises `UserError` if no run is there.
    """
    if len(uris) == 1 and is_sweep(uris[0]):
        write_sweep_report(uris[0], output)
        return
    runs = load_runs(uris)
    page = render(runs, load_evaluation(uris, runs), days(evaluation_files(uris, runs)))
    storage.write_text(storage.make_room(output), page)


def render(runs: Sequence[Run], evaluation: Evaluation, evaluated: str = "") -> str:
    """Return the page as HTML; `evaluated`: the days of the evaluation."""
    tasks = list(dict.fromkeys(str(run.config["task"]) for run in runs))
    places = [storage.join(run.uri, "policy") for run in runs] + [str(run.config["dataset"]) for run in runs]
    titles = item_titles(places, items_shown(evaluation))
    blocks = [
        first_screen(evaluation, _facts(runs, evaluation, evaluated), titles).render(),
        evaluation_section(evaluation),
        served_section(evaluation, titles),
        _reward(runs),
        _curves(runs),
        _levels(runs),
        _settings(runs),
    ]
    return html.document(" and ".join(TITLES.get(task, task) for task in tasks), blocks)


def _facts(runs: Sequence[Run], evaluation: Evaluation, evaluated: str) -> list[tuple[str, str]]:
    """Return runs, data sets, users of the evaluation, and days."""
    trained = days([storage.join(run.uri, "progress.csv") for run in runs])
    facts = [("Trained", dated(", ".join(run.label for run in runs), trained))]
    for uri in dict.fromkeys(str(run.config["dataset"]) for run in runs):
        facts.append(("Data set", _dataset(uri)))
    if evaluation.records:
        facts.append(
            ("Evaluated on", dated(f"{evaluation.split or 'held-out'} users, not used in training", evaluated))
        )
    return facts


def _dataset(uri: str) -> str:
    """Return a data set's name, and its size if the data set still exists."""
    try:
        counts = PreparedDataset.open(uri).metadata.counts.get("train", {})
    except UserError:
        return f"{dataset_name(uri)} (removed)"
    words = {"users": "users", "sessions": "sessions", "requests": "impressions"}
    sizes = [f"{counts[key]:,} {word}" for key, word in words.items() if key in counts]
    return f"{dataset_name(uri)}: {', '.join(sizes)} of training users" if sizes else dataset_name(uri)


def _reward(runs: Sequence[Run]) -> Markup | None:
    drawn = [run for run in runs if any(f"reward/accuracy_{kind}" in run.curves for kind, _ in figures.KINDS)]
    if not drawn:
        return None
    accuracies = [(figures.reward_accuracy(run), f"Reward accuracy, {run.label} (the paper's Fig. 6)") for run in drawn]
    losses = [(figures.reward_loss(run), f"Reward loss, {run.label} (the paper's Fig. 7)") for run in drawn]
    note = (
        "The reward model predicts which of two histories is preferred. Pairs across users mostly compare how active "
        "two users are. Pairs within a user compare the effect of recommendations."
    )
    parts = [html.paragraph(note, "note"), html.figures(accuracies), html.figures(losses)]
    return html.section("Reward model", *parts, folded=True)


def _curves(runs: Sequence[Run]) -> Markup | None:
    drawn = [(figures.learning_curve(runs, column, title, unit), title) for column, title, unit in CURVES]
    return html.section(
        "Learning curves",
        html.paragraph(CURVES_NOTE, "note"),
        html.figures([(figure, title) for figure, title in drawn if figure is not None], captions=False),
        folded=True,
    )


def _levels(runs: Sequence[Run]) -> Markup | None:
    shown, notes = [], []
    uris = list(dict.fromkeys(str(run.config["dataset"]) for run in runs))
    for uri in uris:
        name = f", {uri}" if len(uris) > 1 else ""
        try:
            for kind, share in level_shares(uri).items():
                text = f"Sessions at each level in {kind}{name} (the paper's Fig. 4)"
                shown.append((figures.levels(share, kind), text))
        except UserError:
            notes.append(html.paragraph(f"{uri}: the data set was removed, so its levels are not drawn.", "note"))
    return html.section("Engagement in the logs", html.figures(shown) if shown else None, *notes, folded=True)


def _settings(runs: Sequence[Run]) -> Markup | None:
    columns = [_flat(run.config) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [[key, *(column.get(key, "–") for column in columns)] for key in keys]
    return html.section("Settings", html.table(["setting", *(run.label for run in runs)], rows), folded=True)


def _flat(config: dict[str, Any]) -> dict[str, str]:
    """Return the top keys, then all resolved keys of the method, which include the run's own settings."""
    top = {key: str(value) for key, value in config.items() if not isinstance(value, dict)}
    resolved = config.get("resolved") or config.get("config") or {}
    return top | {key: str(value) for key, value in resolved.items() if key not in top}
