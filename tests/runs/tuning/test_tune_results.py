"""The best settings of a sweep."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prefrec_ray.cli.config import open_section
from prefrec_ray.runs.tuning.results import best_settings, trial_rows, write_best
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runs.tuning.shared import Shared
from prefrec_ray.runs.tuning.space import trials
from prefrec_ray.runs.tuning.trial import SweepPlan


def test_null_of_the_best_trial_takes_the_place_of_a_value_of_base(tmp_path: Path) -> None:
    search = {
        "updates_per_iteration": {"grid": [None, 3]},
        "expectile": {"grid": [0.6], "methods": ["PrefRec"]},
    }
    section = {"method": ["PrefRec", "IL"], "search": search, "base": {"updates_per_iteration": 5}}
    settings = TuneSettings.model_validate({**section, "metric": "values/q_mean"})
    for method, keys in (("PrefRec", {"expectile": 0.6}), ("IL", {})):
        plan = SweepPlan(settings, "data", Shared(), None, str(tmp_path))
        write_best(plan, [_row(trial, settings, method) for trial in trials(settings)])
        best = open_section(str(tmp_path / "best.yaml"), "train")
        assert best.method == method
        assert best.config == {"updates_per_iteration": None, **keys}


def test_a_searched_setting_is_not_replaced_by_the_column_of_its_name(tmp_path: Path) -> None:
    search = {"transitions": {"grid": ["materialised", "streaming"]}}
    settings = TuneSettings.model_validate({"search": search, "metric": "losses/qf_loss", "mode": "min"})
    reported = {"transitions": 4096, "finished": True}
    ended = [
        SimpleNamespace(
            config={"trial": trial},
            last_result={**reported, "reported": list(reported), "losses/qf_loss": float(number)},
            status="TERMINATED",
            run_metadata=SimpleNamespace(checkpoint_manager=SimpleNamespace(best_checkpoint_result=None)),
        )
        for number, trial in enumerate(trials(settings))
    ]
    rows = trial_rows(ended, settings)
    assert [row["transitions"] for row in rows] == ["materialised", "streaming"]
    write_best(SweepPlan(settings, "data", Shared(), None, str(tmp_path)), rows)
    assert open_section(str(tmp_path / "best.yaml"), "train").config == {"transitions": "materialised"}


def test_the_best_settings_have_the_best_mean_over_seeds(tmp_path: Path) -> None:
    """The method with the best single trial has the worse mean."""
    scores = {("PrefRec", 0): 9.0, ("PrefRec", 1): 0.0, ("IL", 0): 5.0, ("IL", 1): 6.0}
    settings = TuneSettings(method=["PrefRec", "IL"], seeds=[0, 1], metric="values/q_mean")
    about = {"status": "finished", "task": settings.task[0], "recipe": "robust"}
    rows = [
        {"trial": f"{method} {seed}", "method": method, "seed": seed, "values/q_mean": score, **about}
        for (method, seed), score in scores.items()
    ]
    best = best_settings(rows, settings)[settings.task[0]]
    assert (best.rows[0]["trial"], best.mean, best.seeds) == ("IL 1", 5.5, "mean of seeds 0, 1")


def _row(trial: dict[str, Any], settings: TuneSettings, best: str) -> dict[str, Any]:
    """A row of trials.csv: of the method `best` the trial without a number of updates is the best one."""
    score = float(trial["method"] == best) + float(trial["config"]["updates_per_iteration"] is None)
    about = {key: trial[key] for key in ("method", "recipe", "task", "seed")}
    keys = {key: trial["config"].get(key) for key in settings.search}
    return {"trial": trial["name"], "status": "finished", **about, **keys, "values/q_mean": score}
