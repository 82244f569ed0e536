"""The section `train` becomes the RLlib config of a run."""

from __future__ import annotations

from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.methods import find_method
from prefrec_ray.runs.settings import TrainSettings


def build_config(settings: TrainSettings, dataset: str, where: str = "train") -> OfflineConfig:
    """The RLlib config of `settings` on the data set at `dataset`. Raises `UserError` as `TrainSettings.training`."""
    training = settings.training(where)
    config = find_method(settings.method).get_default_config().offline_data(input_=dataset)
    return config.training(**{name: getattr(training, name) for name in type(training).model_fields})
