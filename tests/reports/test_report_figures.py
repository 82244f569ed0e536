from dataclasses import replace
from pathlib import Path

import numpy as np
from made_records import made_record
from matplotlib.text import Text

from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.reports import figures
from prefrec_ray.reports.figures import legend, panel, svg
from prefrec_ray.reports.load import load_evaluation, load_runs
from prefrec_ray.reports.page import _records


def test_many_curves_differ_and_have_names(runs: Path) -> None:
    (one, *_) = load_runs([str(runs)])
    many = [replace(one, label=f"_run {number}") for number in range(8)]
    (axes,) = figures.learning_curve(many, "values/q_mean", "Mean Q", "reward").axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 8
    assert [text.get_text().strip("\u200b") for text in axes.get_legend().get_texts()] == [run.label for run in many]


def test_learning_curves_have_a_line_a_run_and_none_without_numbers(runs: Path) -> None:
    loaded = load_runs([str(runs)])
    figure = figures.learning_curve(loaded, "values/q_mean", "Mean Q", "reward")
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["PrefRec paper", "PrefRec robust"]
    for line, run in zip(figure.axes[0].lines, loaded, strict=True):
        values = run.curve("values/q_mean")
        np.testing.assert_array_equal(line.get_ydata(), values[np.isfinite(values)])
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


def test_an_evaluation_without_files_is_empty(tmp_path: Path) -> None:
    assert load_evaluation([str(tmp_path)], []) == Evaluation(records=())


def test_a_figure_is_the_same_bytes_each_time() -> None:
    records = [made_record("p", 1.18)]
    assert svg(figures.forest(records, "", "")) == svg(figures.forest(records, "", ""))


def test_a_name_with_dollars_is_no_formula() -> None:
    """An invalid formula would cause a traceback, and a valid one would lose its signs."""
    figure, axes = panel("runs/a$\\no{$b", "x", "y")
    axes.plot([0, 1], label="r$1$")
    legend(axes)
    assert svg(figure)
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())
