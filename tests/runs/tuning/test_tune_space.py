"""The trials of a section `tune`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.algorithms.requests import DataRequest
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runs.tuning.settings import Space, TuneSettings
from prefrec_ray.runs.tuning.space import (
    corners,
    draw,
    draws_reward,
    suggest,
    train_settings,
    trials,
)


def sweep(**changes: Any) -> TuneSettings:
    return TuneSettings.model_validate(changes)


def test_a_grid_is_multiplied_out_with_its_seeds() -> None:
    combinations = trials(
        sweep(
            method=["PrefRec", "IQL"], task=["depth", "mixture"], seeds=[3, 4], search={"gamma": {"grid": [0.5, 0.9]}}
        )
    )
    assert len(combinations) == 2 * 2 * 2 * 2
    seen = {(t["method"], t["task"], t["seed"], t["config"]["gamma"]) for t in combinations}
    assert len(seen) == 16
    assert [t["name"] for t in combinations[:2]] == ["PrefRec_depth_3_000", "PrefRec_depth_4_001"]
    assert len({t["name"] for t in combinations}) == 16


def test_a_key_of_one_method_multiplies_that_method_alone() -> None:
    search = {"expectile": {"grid": [0.5, 0.7, 0.9], "methods": ["PrefRec"]}, "gamma": {"grid": [0.9, 0.97]}}
    combinations = trials(sweep(method=["PrefRec", "DDPG"], search=search))
    assert [t["method"] for t in combinations] == ["PrefRec"] * 6 + ["DDPG"] * 2
    assert all(("expectile" in t["config"]) == (t["method"] == "PrefRec") for t in combinations)


def test_a_draw_is_the_same_for_every_method_seed_and_neighbour() -> None:
    rates = {"actor_lr": {"loguniform": [1e-5, 1e-3]}}
    both = trials(sweep(method=["PrefRec", "IQL"], seeds=[0, 1], num_samples=3, search=rates))
    values = [t["config"]["actor_lr"] for t in both]
    assert values[:6] == values[6:]
    assert values[0] == values[1] != values[2]
    more = trials(sweep(num_samples=5, search={"gamma": {"uniform": [0.8, 0.9]}, **rates}))
    assert [t["config"]["actor_lr"] for t in more][:3] == values[:6:2]


def test_keys_of_one_range_are_drawn_apart() -> None:
    one_range = {"uniform": [0.1, 0.9]}
    drawn = trials(sweep(num_samples=200, search={"gamma": one_range, "expectile": one_range}))
    values = np.array([[trial["config"]["gamma"], trial["config"]["expectile"]] for trial in drawn])
    assert (values[:, 0] != values[:, 1]).all()
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.2


def test_without_a_drawn_key_a_trial_is_not_repeated() -> None:
    assert len(trials(sweep(num_samples=4))) == 1


SPACES = [
    {"uniform": [0.2, 0.4]},
    {"loguniform": [1e-6, 1e-2]},
    {"choice": [1, "a", [2, 3]]},
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: next(iter(space)))
@settings(deadline=None, max_examples=50)
@given(position=st.floats(0, 1, exclude_max=True))
def test_draws_stay_in_their_space(space: dict[str, Any], position: float) -> None:
    (kind, given_values), made = next(iter(space.items())), Space.model_validate(space)
    value = draw(made, lambda: position)
    if kind == "choice":
        assert value in given_values
    else:
        low, high = given_values
        assert low * (1 - 1e-12) <= value <= high
        if kind == "loguniform" and position == 0.5:
            assert value == pytest.approx(1e-4)


def test_base_stands_under_what_is_searched() -> None:
    tune_settings = sweep(base={"gamma": 0.5, "tau": 0.1}, search={"gamma": {"grid": [0.9]}})
    (run,) = [train_settings(tune_settings, trial) for trial in trials(tune_settings)]
    assert run.config == {"gamma": 0.9, "tau": 0.1}


class Asked:
    """Stands for Optuna's trial: takes the last category, and the middle of a range."""

    number = 7

    def suggest_categorical(self, name: str, values: Any) -> Any:
        return list(values)[-1]

    def suggest_float(self, name: str, low: float, high: float) -> float:
        return (low + high) / 2


def test_optuna_draws_the_keys_of_the_method_it_chose() -> None:
    search = {
        "expectile": {"uniform": [0.5, 0.9], "methods": ["PrefRec"]},
        "actor_lr": {"loguniform": [1e-6, 1e-2]},
        "hidden_sizes": {"choice": [[64], [128, 128]]},
    }
    trial = suggest(sweep(method=["PrefRec", "DDPG"], search=search, seeds=[2]), Asked())["trial"]
    assert trial["name"] == "DDPG_frequency_2_007"
    assert trial["config"] == {"actor_lr": pytest.approx(1e-4), "hidden_sizes": [128, 128]}


def test_corners_ask_for_all_data_that_a_searcher_may_ask_for(tiny_dataset: str) -> None:
    dataset = PreparedDataset.open(tiny_dataset)
    varied = {"replay_buffer_size": [100, 200], "reward_source": ["preferences", "column"]}
    varied["transitions"] = ["materialised", "streaming"]
    tune_settings = sweep(searcher="optuna", search={key: {"choice": values} for key, values in varied.items()})
    runs = [train_settings(tune_settings, corner).training() for corner in corners(tune_settings)]
    assert len({DataRequest.from_settings(run, dataset) for run in runs}) == 8


def test_corners_ask_for_every_reward_that_a_searcher_may_ask_for() -> None:
    search = {"scoring": {"choice": ["sum", "mean"]}, "gamma": {"uniform": [0.8, 0.9]}}
    tune_settings = sweep(searcher="optuna", search=search)
    assert [t["config"]["scoring"] for t in corners(tune_settings)] == ["sum", "mean"]
    assert not draws_reward(tune_settings)
    assert draws_reward(sweep(search={"reward_lr": {"loguniform": [1e-5, 1e-3]}}))
