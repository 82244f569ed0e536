"""The lines in the figures of a sweep."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from sweep_folder import UPDATES, score, settings, write_evaluation, write_sweep

from prefrec_ray.reports.sweep import figures as sweep_figures
from prefrec_ray.reports.sweep.load import Sweep, load_sweep
from prefrec_ray.reports.sweep.scores import measures
from prefrec_ray.runs.tuning.space import Trial

EXPECTILES = {"expectile": {"grid": [0.5, 0.7, 0.9]}}


def test_learning_curves_are_means_with_the_seeds_range(tmp_path: Path) -> None:
    trials = write_sweep(tmp_path / "sweep", settings(method=["PrefRec", "TD3_BC"]))
    sweep = load_sweep(f"{tmp_path}/sweep")
    figure = sweep_figures.learning_curves(sweep, "depth", "validation/online")
    assert figure is not None
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(UPDATES)]
    for line, method in zip(lines, ("PrefRec", "TD3_BC"), strict=True):
        ends = [score(t) for t in trials if (t["method"], t["task"]) == (method, "depth")]
        np.testing.assert_allclose(line.get_ydata(), [1 + (np.mean(ends) - 1) * i / 4 for i in (1, 2, 3, 4)])
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    ends = [score(t) for t in trials[:3]]
    assert (band[:, 1].max(), band[band[:, 0] == UPDATES[-1], 1].min()) == pytest.approx((max(ends), min(ends)))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["PrefRec", "TD3_BC"]


def test_one_score_at_the_end_is_no_curve(tmp_path: Path) -> None:
    for trial in write_sweep(tmp_path / "sweep"):
        file = tmp_path / "sweep" / trial["name"] / "progress.csv"
        head, *_, last = file.read_text().splitlines()
        file.write_text(f"{head}\n1,train,300,,\n{last}\n")
    sweep = load_sweep(f"{tmp_path}/sweep")
    assert sweep_figures.learning_curves(sweep, "depth", "validation/ncis") is None


def test_the_best_eight_settings_are_drawn_and_look_different(tmp_path: Path) -> None:
    grid = {"expectile": {"grid": [round(0.5 + i / 25, 2) for i in range(10)]}}
    write_sweep(tmp_path / "sweep", settings(method="PrefRec", search=grid, task="depth"), worth=lambda t: score(t, 0))
    figure = sweep_figures.learning_curves(load_sweep(f"{tmp_path}/sweep"), "depth", "validation/online")
    assert figure is not None
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(UPDATES)]
    looks = [(line.get_color(), line.get_linestyle()) for line in lines]
    assert len(set(looks)) == len(lines) == 8
    shown = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    # 0.7 is the best of them: the two furthest from it are not drawn.
    assert shown == {f"expectile={0.5 + i / 25:.3g}" for i in range(1, 9)} | (shown & {"expectile=0.5"})
    assert len(shown) == 8


def figures_of(sweep: Sweep, task: str = "depth") -> dict[str, Figure]:
    """The figures by keys of the first measure, by their captions."""
    return {caption: figure for figure, caption in sweep_figures.by_keys(sweep, measures(sweep)[0], task)}


def test_one_gridded_number_is_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    trials = write_sweep(folder, settings(method="PrefRec", search=EXPECTILES))
    write_evaluation(folder, trials)
    figure = figures_of(load_sweep(str(folder)), "frequency")["frequency, by expectile"]
    axes = figure.axes[0]
    line = next(line for line in axes.lines if len(line.get_xdata()) == 3 and line.get_linestyle() == "-")
    assert list(line.get_xdata()) == [0.5, 0.7, 0.9]
    groups = [
        [score(t) + 0.2 for t in trials if t["task"] == "frequency" and t["config"]["expectile"] == value]
        for value in (0.5, 0.7, 0.9)
    ]
    np.testing.assert_allclose(line.get_ydata(), [np.mean(group) for group in groups])
    assert axes.get_ylabel() == "True level\n(level, 0 to 5)"
    assert figures_of(load_sweep(str(folder)), "mixture") == {}


def test_one_gridded_word_has_even_steps_and_a_line_per_method_that_has_it(tmp_path: Path) -> None:
    search = {"hidden_sizes": {"grid": [[64, 64], [8]], "methods": ["TD3_BC", "IQL"]}}
    write_sweep(tmp_path / "sweep", settings(method=["PrefRec", "TD3_BC", "IQL"], search=search, seeds=[0]))
    figures = figures_of(load_sweep(f"{tmp_path}/sweep"))
    assert list(figures) == ["depth, by hidden_sizes"]
    axes = figures["depth, by hidden_sizes"].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["(64, 64)", "(8,)"]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"TD3_BC", "IQL"}


def test_two_gridded_keys_are_a_line_per_value_of_the_second(tmp_path: Path) -> None:
    def status(trial: Trial) -> str:
        return "failed" if trial["config"] == {"gamma": 0.97, "expectile": 0.5} else "finished"

    search = {"gamma": {"grid": [0.97, 0.8]}, "expectile": {"grid": [0.5, 0.9]}}
    trials = write_sweep(tmp_path / "sweep", settings(method="PrefRec", search=search), status)
    figures = figures_of(load_sweep(f"{tmp_path}/sweep"))
    assert list(figures) == ["depth, by gamma"]
    axes = figures["depth, by gamma"].axes[0]
    assert axes.get_xlabel() == "gamma"
    lines = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    assert set(lines) == {"PrefRec expectile=0.5", "PrefRec expectile=0.9"}
    for expectile, gammas in ((0.5, [0.8]), (0.9, [0.8, 0.97])):
        line = lines[f"PrefRec expectile={expectile}"]
        assert list(line.get_xdata()) == gammas
        expected = [mean_score(trials, gamma=gamma, expectile=expectile) for gamma in gammas]
        np.testing.assert_allclose(line.get_ydata(), expected)


def mean_score(trials: list[Trial], **config: Any) -> float:
    return float(np.mean([score(t) for t in trials if t["task"] == "depth" and t["config"] == config]))


def test_a_search_shows_every_trial_and_the_best_finished_one(tmp_path: Path) -> None:
    chosen = settings(
        method="PrefRec",
        task="depth",
        seeds=[0],
        num_samples=12,
        search={"actor_lr": {"loguniform": [1e-6, 1e-3]}, "gamma": {"choice": [0.9, 0.97]}},
        metric="validation/online",
        scheduler="asha",
    )
    # The trial with the highest score was stopped, and the next one failed.
    ranked = sorted(write_sweep(tmp_path / "first", chosen), key=score, reverse=True)
    ends = {ranked[0]["name"]: "stopped", ranked[1]["name"]: "failed"}
    write_sweep(tmp_path / "sweep", chosen, status=lambda trial: ends.get(trial["name"], "finished"))
    figures = figures_of(load_sweep(f"{tmp_path}/sweep"))
    assert list(figures) == ["depth, by actor_lr", "depth, by gamma"]
    axes = figures["depth, by actor_lr"].axes[0]
    assert axes.get_xscale() == "log"
    dots = {float(dot.get_xdata()[0]): float(dot.get_ydata()[0]) for dot in axes.lines if dot.get_markersize() == 5}
    expected = {t["config"]["actor_lr"]: score(t) for t in ranked if ends.get(t["name"]) != "failed"}
    assert dots == pytest.approx(expected)
    (best,) = [dot for dot in axes.lines if dot.get_markersize() == 10]
    assert best.get_ydata()[0] == pytest.approx(score(ranked[2]))
    gamma = figures["depth, by gamma"].axes[0]
    assert [label.get_text() for label in gamma.get_xticklabels()] == ["0.9", "0.97"]


def test_three_gridded_keys_are_dots_by_each_of_them(tmp_path: Path) -> None:
    keys = ("gamma", "tau", "expectile")
    search = {key: {"grid": [0.001, 0.9]} for key in keys}
    write_sweep(tmp_path / "sweep", settings(method="PrefRec", task="depth", seeds=[0], search=search))
    assert list(figures_of(load_sweep(f"{tmp_path}/sweep"))) == [f"depth, by {key}" for key in keys]


def test_methods_without_keys_have_no_figure_by_keys(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep")
    assert figures_of(load_sweep(f"{tmp_path}/sweep")) == {}
