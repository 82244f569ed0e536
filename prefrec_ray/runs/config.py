"""The RLlib config of a run, from the section `train`."""

from __future__ import annotations

from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.methods import find_method
from prefrec_ray.runs.settings import TrainSettings


def build_config(settings: TrainSettings, dataset: str, where: str = "train") -> OfflineConfig:
    """Return the RLlib config of `settings` for the data set at `dataset`.

    Raises `UserError` like `settings.training`.
    """
    training = settings.training(where)
    config = find_method(settings.method).get_default_config().offline_data(input_=dataset)
    return config.training(**{name: getattr(training, name) for name in type(training).model_fields})
