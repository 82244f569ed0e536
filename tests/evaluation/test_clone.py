import shutil
from pathlib import Path

import numpy as np
import pytest
from hand_made import logging_weight

from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.evaluation.behavior import BehaviorClone, fit_clone


def requests(dataset: PreparedDataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    tables = [dataset.read(file) for file in dataset.files("requests", split)]
    return tuple(np.concatenate([tensor(table[name]) for table in tables]) for name in ("state", "action"))


def test_learns_what_can_be_learned(dataset: PreparedDataset, clone: BehaviorClone) -> None:
    states, actions = requests(dataset, "test")
    ideal = np.tanh(states @ logging_weight(dataset.state.width).T)
    noise = np.sqrt(((actions - ideal) ** 2).mean())
    rms = np.sqrt(((actions - clone.policy.act(states)) ** 2).mean())
    assert noise < rms < 1.1 * noise < 0.8 * actions.std()


def test_the_residual_is_that_of_validation_users(dataset: PreparedDataset, clone: BehaviorClone) -> None:
    states, actions = requests(dataset, "validation")
    assert clone.residual_rms == pytest.approx(np.sqrt(((actions - clone.policy.act(states)) ** 2).mean()), rel=1e-5)


def test_the_mean_action_is_that_of_training_users(dataset: PreparedDataset, clone: BehaviorClone) -> None:
    _, actions = requests(dataset, "train")
    np.testing.assert_allclose(clone.mean_action, actions.mean(axis=0), atol=0.01)


def test_the_same_seed_gives_the_same_clone(dataset: PreparedDataset, clone: BehaviorClone) -> None:
    again, other = fit_clone(dataset, seed=0), fit_clone(dataset, seed=1)
    states = requests(dataset, "test")[0][:50]
    assert np.array_equal(again.policy.act(states), clone.policy.act(states))
    assert not np.array_equal(other.policy.act(states), clone.policy.act(states))


@pytest.mark.parametrize(
    ("folder", "message"), [("requests/validation", "no validation impressions"), ("transitions", "no transitions")]
)
def test_missing_data_is_one_line(
    dataset: PreparedDataset, ray_session: None, tmp_path: Path, folder: str, message: str
) -> None:
    shutil.copytree(dataset.uri, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / folder)
    with pytest.raises(Exception, match=message) as raised:
        fit_clone(PreparedDataset.open(str(tmp_path / "less")), seed=0)
    error = find_user_error(raised.value)
    assert isinstance(error, UserError)
    assert "\n" not in str(error)
