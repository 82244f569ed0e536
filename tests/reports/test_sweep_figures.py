"""What the figures of a sweep draw, read back from their lines."""

from pathlib import Path

import numpy as np
import pytest
from sweep_folder import UPDATES, score, settings, write_evaluation, write_sweep

from prefrec_ray.reports.sweep import figures as sweep_figures
from prefrec_ray.reports.sweep import search as sweep_search
from prefrec_ray.reports.sweep.load import load_sweep
from prefrec_ray.reports.sweep.scores import measures
from prefrec_ray.runs.tuning.settings import Space

EXPECTILES = {"expectile": {"grid": [0.5, 0.7, 0.9]}}
SWITCHES = {"pretrain_epochs": {"grid": [3, 0]}, "finetune_reward": {"grid": [True, False]}}


def test_learning_curves_are_means_with_the_seeds_range(tmp_path: Path) -> None:
    trials = write_sweep(tmp_path / "sweep", settings(method=["PrefRec", "TD3_BC"]))
    sweep = load_sweep(f"{tmp_path}/sweep")
    figure = sweep_figures.learning_curves(sweep, "depth", "validation/online", "level")
    assert figure is not None
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(UPDATES)]
    for line, method in zip(lines, ("PrefRec", "TD3_BC"), strict=True):
        ends = [score(t) for t in trials if (t["method"], t["task"]) == (method, "depth")]
        np.testing.assert_allclose(line.get_ydata(), [1 + (np.mean(ends) - 1) * i / 4 for i in (1, 2, 3, 4)])
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    ends = [score(t) for t in trials[:3]]
    assert (band[:, 1].max(), band[band[:, 0] == UPDATES[-1], 1].min()) == pytest.approx((max(ends), min(ends)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["TD3_BC", "PrefRec"]


def test_one_score_at_the_end_is_no_curve(tmp_path: Path) -> None:
    for trial in write_sweep(tmp_path / "sweep"):
        file = tmp_path / "sweep" / trial["name"] / "progress.csv"
        head, *_, last = file.read_text().splitlines()
        file.write_text(f"{head}\n1,train,300,,\n{last}\n")
    sweep = load_sweep(f"{tmp_path}/sweep")
    assert sweep_figures.learning_curves(sweep, "depth", "validation/ncis", "NCIS") is None


def test_eight_methods_look_different_and_more_than_that_are_grey(tmp_path: Path) -> None:
    grid = {"expectile": {"grid": [round(0.5 + i / 25, 2) for i in range(10)]}}
    write_sweep(tmp_path / "sweep", settings(method="PrefRec", search=grid, task="depth"), worth=lambda t: score(t, 0))
    figure = sweep_figures.learning_curves(load_sweep(f"{tmp_path}/sweep"), "depth", "validation/online", "level")
    assert figure is not None
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(UPDATES)]
    looks = [(line.get_color(), line.get_linestyle()) for line in lines]
    assert len(lines) == 10
    assert len(set(looks)) == 9
    shown = {text.get_text() for text in figure.axes[0].texts}
    # 0.7 is the best of them: the two furthest from it go without a name.
    assert shown == {f"expectile={0.5 + i / 25:.3g}" for i in range(1, 9)} | (shown & {"expectile=0.5"})
    assert len(shown) == 8


def test_a_score_against_one_number(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    trials = write_sweep(folder, settings(method="PrefRec", search=EXPECTILES))
    write_evaluation(folder, trials)
    sweep = load_sweep(str(folder))
    assert sweep_figures.single_number(sweep) == "expectile"
    figure = sweep_figures.against_key(sweep, measures(sweep)[0], "frequency", "expectile")
    assert figure is not None
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 3 and line.get_linestyle() == "-")
    assert list(line.get_xdata()) == [0.5, 0.7, 0.9]
    groups = [
        [score(t) + 0.2 for t in trials if t["task"] == "frequency" and t["config"]["expectile"] == value]
        for value in (0.5, 0.7, 0.9)
    ]
    np.testing.assert_allclose(line.get_ydata(), [np.mean(group) for group in groups])
    assert sweep_figures.against_key(sweep, measures(sweep)[0], "mixture", "expectile") is None


def test_combinations_have_a_row_each(tmp_path: Path) -> None:
    trials = write_sweep(tmp_path / "sweep", settings(method="PrefRec", search=SWITCHES))
    sweep = load_sweep(f"{tmp_path}/sweep")
    assert sweep_figures.single_number(sweep) is None
    assert sweep_figures.has_combinations(sweep)
    figure = sweep_figures.combinations(sweep, measures(sweep)[0], "depth")
    assert figure is not None
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["full", "no fine-tuning", "no pre-training", "neither"]
    points = [line for line in figure.axes[0].lines if line.get_markersize() == 7]
    scores = [float(line.get_xdata()[0]) for line in points]
    expected = [np.mean([score(t) for t in trials[i : i + 3]]) for i in (0, 3, 6, 9)]
    np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize(
    ("search", "number", "few"),
    [
        ({}, None, False),
        (EXPECTILES, "expectile", True),
        ({"expectile": {"grid": [0.5]}}, None, False),
        ({"finetune_reward": {"grid": [True, False]}}, None, True),
        ({"actor_lr": {"uniform": [1e-5, 1e-4]}}, None, False),
        (
            {"gamma": {"grid": [0.1 * i for i in range(5)]}, "tau": {"grid": [0.01 * i for i in range(1, 5)]}},
            None,
            False,
        ),
    ],
)
def test_which_figures_a_sweep_has(tmp_path: Path, search: dict, number: str | None, few: bool) -> None:
    write_sweep(tmp_path / "sweep", settings(method="PrefRec", task="depth", seeds=[0], search=search))
    sweep = load_sweep(f"{tmp_path}/sweep")
    assert sweep_figures.single_number(sweep) == number
    assert sweep_figures.has_combinations(sweep) == few


def test_places_on_an_axis() -> None:
    log = Space(loguniform=(1e-6, 1e-2))
    np.testing.assert_allclose(sweep_search.positions(log, [1e-6, 1e-4, 1e-2]), [0, 0.5, 1])
    assert [text for _, text in sweep_search.ticks(log)] == ["1e-06", "1e-05", "0.0001", "0.001", "0.01"]
    np.testing.assert_allclose(sweep_search.positions(Space(uniform=(0.5, 0.9)), [0.6, 0.9]), [0.25, 1])
    choice = Space(choice=[[8], [64, 64], [1]])
    np.testing.assert_allclose(sweep_search.positions(choice, [(1,), (8,), (64, 64)]), [1, 0, 0.5])
    assert [text for _, text in sweep_search.ticks(Space(loguniform=(2e-4, 5e-4)))] == ["0.0002", "0.0005"]


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
    (search,) = sweep_search.searches(load_sweep(f"{tmp_path}/sweep"))
    assert len(search.trials) == 11
    assert search.best is not None
    assert search.best.name == ranked[2]["name"]
    axes = sweep_search.parallel(search).axes[0]
    paths = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(paths) == 11
    (best,) = [line for line in paths if line.get_color() == sweep_search.BEST]
    worth = [score(t) for t in ranked if ends.get(t["name"]) != "failed"]
    reached = (score(ranked[2]) - min(worth)) / (max(worth) - min(worth))
    place = np.log(ranked[2]["config"]["actor_lr"] / 1e-6) / np.log(1e3)
    np.testing.assert_allclose(best.get_ydata(), [place, float(ranked[2]["config"]["gamma"] == 0.97), reached])
    dots = sweep_search.scatter(search, "actor_lr").axes[0].lines
    assert sorted(float(dot.get_ydata()[0]) for dot in dots if dot.get_markersize() == 5) == pytest.approx(
        sorted(worth)
    )


def test_a_grid_is_no_search(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", settings(method="PrefRec", search=EXPECTILES))
    assert sweep_search.searches(load_sweep(f"{tmp_path}/sweep")) == []
