"""Settings as fields: all entry points refuse the same values, and the recipes have their documented defaults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.algorithms import SETTINGS, find_settings
from prefrec_ray.algorithms.settings import (
    ExpectileSettings,
    TD3Settings,
    TrainingSettings,
    checked_values,
    recipe_defaults,
    reward_settings,
)
from prefrec_ray.errors import UserError

#: Table 1 of the paper.
TABLE_1 = {
    "gamma": 0.9,
    "expectile": 0.7,
    "tau": 0.001,
    "actor_lr": 5e-6,
    "critic_lr": 5e-5,
    "train_batch_size_per_learner": 4096,
    "preference_batch_size": 256,
    "pretrain_epochs": 3,
    "replay_buffer_size": 3_000_000,
    "num_epochs": 5,
    "hidden_sizes": (256, 256, 256),
}


def test_paper_is_table_1() -> None:
    settings = ExpectileSettings.model_validate({"recipe": "paper"})
    assert {name: getattr(settings, name) for name in TABLE_1} == TABLE_1
    assert settings.finetune_reward
    assert settings.reward_horizon == 1


def test_a_recipe_comes_before_single_settings_wherever_it_stands() -> None:
    settings = TrainingSettings.model_validate({"gamma": 0.5, "recipe": "paper"})
    assert (settings.gamma, settings.tau) == (0.5, 0.001)
    assert recipe_defaults(TrainingSettings, "robust").keys() == recipe_defaults(TrainingSettings, "paper").keys()


def test_every_field_says_what_it_is() -> None:
    for method, model in SETTINGS.items():
        assert [name for name, field in model.model_fields.items() if not field.description] == [], method


@pytest.mark.parametrize("method", SETTINGS)
def test_defaults_of_both_recipes_pass_their_own_fields(method: str) -> None:
    model = find_settings(method)
    for recipe in ("paper", "robust"):
        settings = model.model_validate({"recipe": recipe})
        assert model.model_validate(settings.model_dump()) == settings


def test_what_shapes_a_reward() -> None:
    assert set(reward_settings(ExpectileSettings)) == {
        "task",
        "seed",
        "pairing",
        "scoring",
        "teachers",
        "reward_input",
        "reward_leave_out",
        "precision",
        "reward_lr",
        "reward_members",
        "preference_batch_size",
        "pretrain_epochs",
        "pretrain_updates",
        "hidden_sizes",
    }


def test_texts_are_numbers_and_true_is_none() -> None:
    assert checked_values(TrainingSettings, {"actor_lr": "3e-4"}, "", "")["actor_lr"] == 3e-4
    with pytest.raises(UserError, match="key 'gamma'"):
        checked_values(TrainingSettings, {"gamma": True}, "", "")


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (TrainingSettings, {"reward_horizon": 10**10}, "expected less than or equal to 1000000000, found"),
        (TD3Settings, {"noise_clip": 1e39}, "expected less than or equal to 1000000, found"),
        (TrainingSettings, {"custom_resources_per_learner": {"GPU": 1}}, "expected resources other than CPU and GPU"),
    ],
)
def test_values_that_would_fail_in_training(
    settings: type[TrainingSettings], values: dict[str, object], message: str
) -> None:
    (key,) = values
    with pytest.raises(UserError, match=f"key '{key}': {message}"):
        checked_values(settings, values, "", "")


@given(st.sampled_from(sorted(ExpectileSettings.model_fields)), st.none() | st.booleans() | st.floats() | st.text())
def test_any_value_is_taken_or_refused_in_one_line(name: str, value: object) -> None:
    refused = None
    try:
        checked_values(ExpectileSettings, {name: value}, "a.yaml: train", "config.")
    except UserError as error:
        refused = str(error)
    if refused is not None:
        assert refused.startswith("a.yaml: train: key 'config.")
        assert name in refused
        assert "\n" not in refused
