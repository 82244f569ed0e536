import pytest
from hand_made import direction, write_dataset

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.behavior import BehaviorClone, fit_clone
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_dataset(tmp_path_factory.mktemp("evaluation") / "dataset", users=240)


@pytest.fixture(scope="session")
def clone(dataset: PreparedDataset, ray_session: None) -> BehaviorClone:
    return fit_clone(dataset, seed=0)


@pytest.fixture(scope="session")
def policies(dataset: PreparedDataset) -> dict[str, Policy]:
    return {
        "right": direction(dataset, 0.8, provenance={"method": "TD3_BC"}),
        "left": direction(dataset, -0.8, serving=ServingSettings(rule="best", candidates="nearest", count=1)),
    }
