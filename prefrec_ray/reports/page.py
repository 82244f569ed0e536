"""Page of `prefrec report`: runs, their evaluation and their settings in one file that works offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from prefrec_ray import storage
from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.names import TITLES, subject_title
from prefrec_ray.evaluation.results.records import Evaluation, Record, placebo_bias
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.first import first_screen, items_shown
from prefrec_ray.reports.load import Run, dataset_name, item_titles, load_evaluation, load_runs
from prefrec_ray.reports.sweep import is_sweep, write_sweep_report

#: Columns of progress.csv, with title and unit. Accuracy and loss of the reward are on pairs of held-out users.
CURVES = (
    ("reward/accuracy_within_user", "Reward accuracy within users (Fig. 6)", "pairs predicted right"),
    ("reward/accuracy_any_users", "Reward accuracy across users (Fig. 6)", "pairs predicted right"),
    ("reward/loss_within_user", "Reward loss within users (Fig. 7)", "cross-entropy (nats a pair)"),
    ("reward/loss_any_users", "Reward loss across users (Fig. 7)", "cross-entropy (nats a pair)"),
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
#: Columns of the evaluation's table that only some records have.
COLUMNS = ("behaviour", "ess", "mean_depth", "mean_revisit_hours", "mean_satisfaction", "users", "sessions")


def write_report(uris: Sequence[str], output: str) -> None:
    """Write the page about the runs at or below `uris`, or about one sweep, to the file `output`.

    Raises `UserError` if no run is there.
    """
    if len(uris) == 1 and is_sweep(uris[0]):
        write_sweep_report(uris[0], output)
        return
    runs = load_runs(uris)
    storage.write_text(storage.make_room(output), render(runs, load_evaluation(uris, runs)))


def render(runs: Sequence[Run], evaluation: Evaluation) -> str:
    """Return the page as HTML."""
    tasks = list(dict.fromkeys(str(run.config["task"]) for run in runs))
    places = [storage.join(run.uri, "policy") for run in runs] + [str(run.config["dataset"]) for run in runs]
    titles = item_titles(places, items_shown(evaluation))
    blocks = [
        first_screen(evaluation, _facts(runs, evaluation), titles),
        evaluation_section(evaluation),
        _curves(runs),
        _settings(runs),
    ]
    return html.document(f"Policies for {' and '.join(tasks)}", blocks)


def _facts(runs: Sequence[Run], evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return runs, data sets and users of the evaluation."""
    facts = [("Trained", ", ".join(run.label for run in runs))]
    facts += [("Data set", dataset_name(uri)) for uri in dict.fromkeys(str(run.config["dataset"]) for run in runs)]
    if evaluation.records:
        facts.append(("Evaluated on", f"{evaluation.split or 'held-out'} users, not used in training"))
    return facts


def _curves(runs: Sequence[Run]) -> Markup | None:
    drawn = [(figures.learning_curve(runs, column, title, unit), title) for column, title, unit in CURVES]
    return html.section(
        "Learning curves",
        html.render("note", "curves"),
        html.figures([(figure, title) for figure, title in drawn if figure is not None], captions=False),
        folded=True,
    )


def _settings(runs: Sequence[Run]) -> Markup | None:
    columns = [_flat(run.config) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [[key, *(column.get(key, "–") for column in columns)] for key in keys]
    return html.section("Settings", html.table(["setting", *(run.label for run in runs)], rows), folded=True)


def _flat(config: dict[str, Any]) -> dict[str, str]:
    """Return the top keys, then all resolved keys of the method, which include the run's own settings."""
    top = {key: str(value) for key, value in config.items() if not isinstance(value, dict)}
    known = (config.get("resolved"), config.get("config"))
    resolved = next((one for one in known if isinstance(one, dict)), {})
    return top | {key: str(value) for key, value in resolved.items() if key not in top}


def evaluation_section(evaluation: Evaluation) -> Markup | None:
    """Return one figure and one table per task and estimator, with controls."""
    parts = []
    for task in evaluation.tasks:
        for estimator in dict.fromkeys([*TITLES, *(record.estimator for record in evaluation.records)]):
            records = sorted(evaluation.select(task, estimator), key=lambda record: -record.value)
            if records:
                forest = figures.forest(records, f"{task}: {TITLES.get(estimator, estimator)}", "mean level (0 to 5)")
                parts += [
                    html.figures([(forest, f"{task}, {estimator}: value and interval")]),
                    _records(records),
                ]
                if settings := _settings_in_words(records[0]):
                    parts.append(html.render("paragraph", f"Settings: {settings}.", "note"))
    if not parts:
        return None
    notes = [html.render("note", name) for name in ("level", "evaluation")]
    return html.section("Evaluation and its controls", *notes, *parts, folded=True)


def _records(records: Sequence[Record]) -> Markup:
    """Return the table of the records of one task and estimator. True values have no bias."""
    bias = {} if records[0].estimator == "online" else placebo_bias(records)
    known = [key for key in COLUMNS if any(getattr(record, key) is not None for record in records)]
    rows = [
        [
            record.title,
            record.kind,
            f"{record.value:.3f}",
            _interval(*figures.in_range(record.ci_low, record.ci_high)),
            _interval(*_gains(record)),
            _interval(record.behind_ci_low, record.behind_ci_high),
            f"{bias[record.subject]:+.1f}" if record.subject in bias else "–",
            *("–" if (value := getattr(record, key)) is None else value for key in known),
        ]
        for record in records
    ]
    over = "logging policy" if records[0].estimator == "online" else "logged items"
    head = ["subject", "role", "level", "interval", f"gain over the {over}", "lead of the best", "bias, half-widths"]
    head += [*(subject_title(key).replace("_", " ") for key in known)]
    return html.table(head, rows, [record.role for record in records])


def _interval(low: float | None, high: float | None) -> html.Cell:
    return html.Cell("–" if low is None or high is None else f"[{low:z.2f}, {high:z.2f}]", "interval")


def _gains(record: Record) -> list[float]:
    """Return the interval of the gain, without gains that would lead out of the range of a level."""
    return [min(max(end, -record.behaviour), MAX_LEVEL - record.behaviour) for end in record.gain_interval]


def _settings_in_words(record: Record) -> str:
    """Return the estimator's settings in one line."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.settings.items()
    )
