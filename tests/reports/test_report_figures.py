import re
from pathlib import Path

import numpy as np
from made_records import made_record
from matplotlib.text import Text

from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.reports import figures
from prefrec_ray.reports.evaluated import _records
from prefrec_ray.reports.load import load_evaluation, load_runs
from prefrec_ray.reports.style import adaptive, legend, panel, svg


def test_levels_draws_each_share_and_writes_it() -> None:
    shares = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    axes = figures.levels(shares, "depth").axes[0]
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], shares)
    assert [text.get_text() for text in axes.texts][:2] == ["50.0%", "20.0%"]


def test_reward_accuracy_draws_every_kind_of_pair_and_where_pretraining_ends(runs: Path) -> None:
    run = load_runs([str(runs / "paper")])[0]
    axes = figures.reward_accuracy(run).axes[0]
    drawn = {tuple(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) == 15}
    columns = [f"reward/accuracy_{kind}" for kind in ("train", "any_users", "within_user")]
    assert drawn == {tuple(run.curve(column)) for column in columns}
    (pretraining,) = axes.patches
    assert pretraining.get_x() + pretraining.get_width() == 3.5


def test_reward_loss_takes_the_training_loss_for_training(runs: Path) -> None:
    run = load_runs([str(runs / "paper")])[0]
    drawn = {tuple(line.get_ydata()) for line in figures.reward_loss(run).axes[0].lines}
    assert tuple(run.curve("losses/reward_loss")) in drawn


def test_learning_curves_have_a_line_a_run_and_none_without_numbers(runs: Path) -> None:
    loaded = load_runs([str(runs)])
    figure = figures.learning_curve(loaded, "values/q_mean", "Mean Q", "reward")
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["PrefRec paper", "PrefRec robust"]
    assert figures.learning_curve(loaded, "no/such/column", "", "") is None


def test_forest_draws_values_intervals_and_the_logging_policy(runs: Path) -> None:
    records = load_evaluation([str(runs)], []).select("frequency", "ncis")
    axes = figures.forest(records, "", "").axes[0]
    points = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(points, [r.value for r in records])
    intervals = [
        list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2 and line.get_color() != "#222222"
    ]
    np.testing.assert_allclose(intervals, [[r.ci_low, r.ci_high] for r in records])
    assert [label.get_text() for label in axes.get_yticklabels()] == [r.title for r in records]


def test_no_interval_leaves_the_range_of_a_level() -> None:
    records = [made_record("p", 1.18, half=2.82), made_record("q", 4.9, half=0.5)]
    axes = figures.forest(records, "", "").axes[0]
    drawn = [list(line.get_xdata()) for line in axes.lines if len(set(line.get_xdata())) == 2]
    assert drawn == [[0.0, 4.0], [4.4, 5.0]]
    shown = str(_records(records))
    assert all(interval in shown for interval in ("[0.00, 4.00]", "[-1.00, 3.00]", "[4.40, 5.00]", "[3.40, 4.00]"))


def test_figures_have_colours_for_a_dark_page() -> None:
    drawn = svg(figures.levels(np.full(6, 1 / 6), "depth"))
    css = adaptive(drawn).decode().partition("prefers-color-scheme: dark){")[2].partition("</style>")[0]
    assert '[style*="fill: #222222"]{fill:#e6e6e6!important}' in css
    colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn.decode()))
    assert colours
    assert all(f": {colour}" in css for colour in colours)


def test_an_evaluation_without_files_is_empty(tmp_path: Path) -> None:
    assert load_evaluation([str(tmp_path)], []) == Evaluation(records=())


def test_a_figure_is_the_same_bytes_each_time() -> None:
    shares = np.full(6, 1 / 6)
    assert svg(figures.levels(shares, "depth")) == svg(figures.levels(shares, "depth"))


def test_a_name_with_dollars_is_no_formula() -> None:
    """An invalid formula would cause a traceback, and a valid one would lose its signs."""
    figure, axes = panel("runs/a$\\no{$b", "x", "y")
    axes.plot([0, 1], label="r$1$")
    legend(axes)
    assert svg(figure)
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())
