"""`prefrec report`: everything about one or several runs on one page that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.records import Evaluation
from prefrec_ray.evaluation.verdict import vouched
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.catalogue import named_items
from prefrec_ray.reports.evaluated import evaluation_section, served_section
from prefrec_ray.reports.first import first_screen, items_shown
from prefrec_ray.reports.levels import level_shares
from prefrec_ray.reports.load import Run, dataset_name, dated, days, evaluation_files, load_evaluation, load_runs
from prefrec_ray.reports.sensitivity import sensitivity
from prefrec_ray.reports.sweep.load import is_sweep
from prefrec_ray.reports.sweep.page import write_sweep_report
from prefrec_ray.reports.teachers import teachers_section

CURVES = (
    ("values/reward_mean", "Mean reward", "reward of a request"),
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


def write_report(uris: Sequence[str], output: str) -> None:
    """Writes the page about the runs at or below `uris`, or about the one sweep there, to the file `output`.

    Raises `UserError` where none is.
    """
    if len(uris) == 1 and is_sweep(uris[0]):
        write_sweep_report(uris[0], output)
        return
    runs = load_runs(uris)
    page = render(runs, load_evaluation(uris, runs), days(evaluation_files(uris, runs)))
    storage.write_text(storage.make_room(output), page)


def render(runs: Sequence[Run], evaluation: Evaluation, evaluated: str = "") -> str:
    """The page as HTML; `evaluated`: on which day."""
    tasks = list(dict.fromkeys(str(run.config["task"]) for run in runs))
    places = [storage.join(run.uri, "policy") for run in runs] + [str(run.config["dataset"]) for run in runs]
    blocks = [
        first_screen(evaluation, _facts(runs, evaluation, evaluated), named_items(places, items_shown(evaluation))),
        evaluation_section(vouched(evaluation)),
        sensitivity(vouched(evaluation).records, folded=True),
        served_section(evaluation),
        teachers_section(runs),
        _reward(runs),
        _curves(runs),
        _levels(runs),
        _settings(runs),
    ]
    return html.document(f"Policies for {' and '.join(tasks)}", blocks)


def _facts(runs: Sequence[Run], evaluation: Evaluation, evaluated: str) -> list[tuple[str, str]]:
    """What was trained on what, and when; on whom it was judged."""
    trained = days([storage.join(run.uri, "progress.csv") for run in runs])
    facts = [("Trained", dated(", ".join(run.label for run in runs), trained))]
    for uri in dict.fromkeys(str(run.config["dataset"]) for run in runs):
        facts.append(("On", _dataset(uri)))
    if evaluation.records:
        facts.append(
            ("Judged on", dated(f"{evaluation.split or 'held-out'} users, who were not trained on", evaluated))
        )
    return facts


def _dataset(uri: str) -> str:
    """A data set's name and size, as far as it is still there."""
    try:
        counts = PreparedDataset.open(uri).metadata.counts.get("train", {})
    except UserError:
        return f"{dataset_name(uri)} (not there any more)"
    sizes = [f"{counts[key]:,} {key}" for key in ("users", "sessions", "requests") if key in counts]
    return f"{dataset_name(uri)}: {', '.join(sizes)} of training users" if sizes else dataset_name(uri)


def _reward(runs: Sequence[Run]) -> html.Section | None:
    drawn = [run for run in runs if any(f"reward/accuracy_{kind}" in run.curves for kind, _ in figures.KINDS)]
    if not drawn:
        return None
    accuracies = [
        (figures.reward_accuracy(run), f"Reward accuracy over {_learning(run)}, {run.label} (the paper's Fig. 6)")
        for run in drawn
    ]
    losses = [
        (figures.reward_loss(run), f"Reward loss over {_learning(run)}, {run.label} (the paper's Fig. 7)")
        for run in drawn
    ]
    note = (
        "Pairs across users mostly ask which user is the more active one; "
        "pairs within a user ask what the recommendations did."
    )
    parts = [html.Paragraph(note, "note"), html.figures(accuracies), html.figures(losses)]
    return html.section("Reward model", *parts, folded=True)


def _learning(run: Run) -> str:
    """When the run's reward learns."""
    tuned = (run.config.get("resolved") or {}).get("finetune_reward", True)
    return "pre-training and fine-tuning" if tuned else "pre-training; it stays as it is while the policy learns"


def _curves(runs: Sequence[Run]) -> html.Section | None:
    drawn = [(figures.learning_curve(runs, column, title, unit), title) for column, title, unit in CURVES]
    return html.section(
        "Learning curves",
        html.figures([(figure, title) for figure, title in drawn if figure is not None], captions=False),
        folded=True,
    )


def _levels(runs: Sequence[Run]) -> html.Section | None:
    shown = []
    missing = []
    uris = list(dict.fromkeys(str(run.config["dataset"]) for run in runs))
    for uri in uris:
        try:
            shares = level_shares(uri)
        except UserError:
            missing.append(uri)
            continue
        name = f", {uri}" if len(uris) > 1 else ""
        shown += [
            (figures.levels(share, kind), f"Sessions at each level in {kind}{name} (the paper's Fig. 4)")
            for kind, share in shares.items()
        ]
    notes = [
        html.Paragraph(f"{uri}: the data set is not there any more, so its levels are not drawn.", "note")
        for uri in missing
    ]
    return html.section("Engagement in the logs", html.figures(shown) if shown else None, *notes, folded=True)


def _settings(runs: Sequence[Run]) -> html.Section | None:
    columns = [_flat(run.config) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [[key, *(column.get(key, "–") for column in columns)] for key in keys]
    return html.section("Settings", html.table(["setting", *(run.label for run in runs)], rows), folded=True)


def _flat(config: dict[str, Any]) -> dict[str, str]:
    """The top keys, then every resolved key of the method; what a run set by itself is among the resolved ones."""
    top = {key: str(value) for key, value in config.items() if not isinstance(value, dict)}
    resolved = config.get("resolved") or config.get("config") or {}
    return top | {key: str(value) for key, value in resolved.items() if key not in top}
