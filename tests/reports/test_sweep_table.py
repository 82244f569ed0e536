"""Table 2 against plain computations."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats
from sweep_folder import OWN, score, settings, write_evaluation, write_sweep

from prefrec_ray.reports.sweep.load import Sweep, load_sweep
from prefrec_ray.reports.sweep.scores import Score, measures
from prefrec_ray.reports.sweep.table import SweepTable, make_table, seed_interval, seed_mean, seed_means
from prefrec_ray.runs.tuning.space import Trial

LEVELS = st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=2, max_size=8)


@hypothesis_settings(deadline=None, max_examples=50)
@given(LEVELS)
def test_the_interval_over_seeds_is_students(values: list[float]) -> None:
    interval = seed_interval(values)
    spread = stats.sem(values)
    if spread > 0:
        np.testing.assert_allclose(
            interval, stats.t.interval(0.95, len(values) - 1, np.mean(values), spread), rtol=1e-6, atol=1e-9
        )
    else:
        np.testing.assert_allclose(interval, [np.mean(values)] * 2)


def test_one_seed_has_no_interval_over_seeds() -> None:
    assert seed_interval([1.0]) is None
    entry = seed_mean([Score(1.0, (0.5, 1.75))])
    assert entry is not None
    assert (entry.seeds, entry.interval, entry.users) == (1, None, (0.5, 1.75))
    assert seed_mean([]) is None


def test_users_intervals_are_averaged_and_stay_apart() -> None:
    entry = seed_mean([Score(1.0, (0.5, 1.5)), Score(2.0, (1.8, 2.3))])
    assert entry is not None
    # t(0.975, 1) = 12.7062; the standard error of 1 and 2 is 0.5.
    assert entry.interval == pytest.approx((1.5 - 6.3531, 1.5 + 6.3531), abs=1e-3)
    assert entry.users == pytest.approx((1.15, 1.9))
    without = seed_mean([Score(1.0, (0.5, 1.5)), Score(2.0)])
    assert without is not None
    assert without.users is None


def evaluated(tmp_path: Path) -> tuple[Sweep, list[Trial]]:
    folder = tmp_path / "sweep"
    trials = write_sweep(folder)
    write_evaluation(folder, trials)
    return load_sweep(str(folder)), trials


def gains(table: SweepTable) -> dict[str, list[list[str]]]:
    """The texts of the improvements by method."""
    return {line.name.partition(" against ")[0]: line.texts for line in table.lines if line.role == "gain"}


def test_the_table_holds_means_improvement_and_controls(tmp_path: Path) -> None:
    sweep, trials = evaluated(tmp_path)
    online, ncis = (make_table(sweep, measure) for measure in measures(sweep))
    assert online.tasks == ["depth", "frequency"]
    controls = [f"{name} (control)" for name in ("logging policy", "behavior cloning", "clickbait", "nutrition")]
    expected = ["PrefRec", "TD3_BC", *controls, "PrefRec against the best baseline"]
    assert [line.name for line in online.lines] == expected
    means = {}
    for group, method in zip(sweep.groups.values(), ("PrefRec", "TD3_BC"), strict=True):
        for entry, task in zip(seed_means(group, online.tasks, online.measure), online.tasks, strict=True):
            levels = [score(t) + 0.2 for t in trials if (t["method"], t["task"]) == (method, task)]
            assert entry is not None
            assert entry.mean == pytest.approx(np.mean(levels))
            assert entry.seeds == 3
            # The users' intervals are +- 0.05, 0.1 and 0.15.
            assert entry.users == pytest.approx((entry.mean - 0.1, entry.mean + 0.1))
            means[method, task] = entry.mean
    assert gains(online)["PrefRec"] == [
        [f"{means['PrefRec', task] / means['TD3_BC', task] - 1:+.1%}", "over TD3_BC"] for task in online.tasks
    ]
    assert [line.best[0] for line in online.lines] == [True] + 6 * [False]
    names = ["logging policy (control)", "behavior cloning (control)", "random items (negative control)"]
    assert [line.name for line in ncis.lines][2:5] == names
    assert ncis.lines[2].texts[0] == ["1.000"]


def test_a_users_method_is_compared_with_the_baselines_and_is_not_one(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", settings(method=["PrefRec", OWN, "TD3_BC", "IL"], task="depth"))
    online, _, gap = measures(load_sweep(f"{tmp_path}/sweep"))
    table = make_table(load_sweep(f"{tmp_path}/sweep"), online)
    assert list(gains(table)) == ["PrefRec", "Mine"]
    assert {over for row in gains(table).values() for _, over in row} == {"over TD3_BC"}
    write_sweep(tmp_path / "other", settings(method=["PrefRec", OWN]))
    assert gains(make_table(load_sweep(f"{tmp_path}/other"), online)) == {}
    # A metric of the user's method: seeds 0, 1 and 2 report 4, 5 and 6; its direction is unknown.
    table = make_table(load_sweep(f"{tmp_path}/sweep"), gap)
    assert gap.title == "mine/gap at the end of training"
    assert [line.texts[0][0] for line in table.lines] == ["–", "5", "–", "–"]
    assert not any(line.best[0] for line in table.lines)
    assert "Bold" not in table.notes[0]


@pytest.mark.parametrize(("column", "shift", "count"), [("model", 0, 1), ("model", -5, 0), ("preference", 0, 0)])
def test_relative_differences_are_of_levels_only(tmp_path: Path, column: str, shift: float, count: int) -> None:
    chosen = settings(task="depth", validation={"estimators": [column], "every": 1})
    write_sweep(tmp_path / "sweep", chosen, worth=lambda t: score(t) + shift * (t["method"] == "PrefRec"))
    file = tmp_path / "sweep" / "trials.csv"
    file.write_text(
        file.read_text().replace("validation/online", f"validation/{column}").replace("validation/ncis", "x")
    )
    sweep = load_sweep(f"{tmp_path}/sweep")
    table = make_table(sweep, measures(sweep)[0])
    assert len(gains(table)) == count
    unit = {"model": "level, 0 to 5", "preference": "thousandths of a standard deviation"}[column]
    assert table.notes[0].startswith(f"Unit: {unit}.")
    assert ("has 5 less" in " ".join(table.notes)) == (column == "model")


def test_cells_name_both_intervals(tmp_path: Path) -> None:
    sweep, _ = evaluated(tmp_path)
    table = make_table(sweep, measures(sweep)[0])
    (entry,) = seed_means(next(iter(sweep.groups.values())), ["depth"], table.measure)
    assert entry is not None
    assert entry.interval is not None
    assert entry.users is not None
    seeds, users = (f"[{low:.2f}, {high:.2f}]" for low, high in (entry.interval, entry.users))
    texts = {line.name: line.texts[0] for line in table.lines}
    assert texts["PrefRec"] == [f"{entry.mean:.2f}", f"3 seeds {seeds}", f"users {users}"]
    assert texts["behavior cloning (control)"] == ["1.30", "users [1.20, 1.40]"]
    assert "95 % interval of that mean over training seeds" in table.notes[0]
    assert "95 % interval over test users" in table.notes[0]


def test_without_evaluation_scores_are_those_on_validation_users(tmp_path: Path) -> None:
    trials = write_sweep(tmp_path / "sweep")
    sweep = load_sweep(f"{tmp_path}/sweep")
    online, ncis = measures(sweep)
    assert (online.title, ncis.title) == ("True level on validation users", "NCIS on validation users")
    table = make_table(sweep, online)
    levels = [score(t) for t in trials if (t["method"], t["task"]) == ("TD3_BC", "frequency")]
    mean, seeds = table.lines[1].texts[1]
    assert mean == f"{np.mean(levels):.2f}"
    assert seeds.startswith("3 seeds [")
    assert "users”" not in " ".join(table.notes)


def test_failed_trials_leave_a_cell_with_fewer_seeds_or_none(tmp_path: Path) -> None:
    def status(trial: Trial) -> str:
        lost = trial["method"] == "TD3_BC" and (trial["task"] == "depth" or trial["seed"] == 0)
        return "failed" if lost else "finished"

    write_sweep(tmp_path / "sweep", status=status)
    sweep = load_sweep(f"{tmp_path}/sweep")
    table = make_table(sweep, measures(sweep)[0])
    none, two = table.lines[1].texts
    assert none == ["–"]
    assert two[1].startswith("2 seeds [")
    assert gains(table)["PrefRec"][0] == ["–"]


def test_of_a_large_search_the_best_settings_by_the_metric_are_shown(tmp_path: Path) -> None:
    chosen = settings(
        method="PrefRec",
        task="depth",
        seeds=[0],
        num_samples=30,
        search={"actor_lr": {"loguniform": [1e-6, 1e-3]}},
        metric="losses/qf_loss",
        mode="min",
    )
    trials = write_sweep(tmp_path / "sweep", chosen)
    file = tmp_path / "sweep" / "trials.csv"
    lines = file.read_text().splitlines()
    file.write_text(
        "\n".join([lines[0], *(line.replace(",0.1,", f",{i},") for i, line in enumerate(lines[1:]))]) + "\n"
    )
    sweep = load_sweep(f"{tmp_path}/sweep")
    table = make_table(sweep, measures(sweep)[0])
    assert [line.name for line in table.lines] == [f"#{i:03d}" for i in range(10)]
    assert table.lines[0].keys == f"actor_lr={trials[0]['config']['actor_lr']:.3g}"
    assert "20 settings are not shown; those above are the best by losses/qf_loss." in table.notes


def test_a_sweep_without_scores_falls_back_to_its_metric(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", settings(validation=None, metric="losses/qf_loss", mode="min"))
    sweep = load_sweep(f"{tmp_path}/sweep")
    (measure,) = measures(sweep)
    assert measure.title == "losses/qf_loss at the end of training"
    table = make_table(sweep, measure)
    assert gains(table) == {}
    assert "Bold: the lowest mean" in table.notes[0]
    write_sweep(tmp_path / "other", settings(validation=None))
    assert measures(load_sweep(f"{tmp_path}/other")) == []
