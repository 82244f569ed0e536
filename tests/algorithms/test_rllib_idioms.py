"""Methods as RLlib's users expect them: forward passes of `get_module()`, and documented arguments of `training`."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from tiny import SHORT_RUN

from prefrec_ray.algorithms import METHODS
from prefrec_ray.algorithms.base.config import OfflineConfig


@pytest.mark.parametrize("method", METHODS)
def test_forward_passes_of_the_module(ray_session: None, tiny_dataset: str, method: str) -> None:
    """Actions are in the bounds and depend on the state; the values are those of the method's Q networks."""
    config = METHODS[method].get_default_config().offline_data(input_=tiny_dataset)
    algorithm = config.training(**{**SHORT_RUN, "task": "depth"}).build_algo()
    try:
        module = algorithm.get_module()
        assert algorithm.get_module("another") is None
        generator = np.random.default_rng(0)
        obs = torch.tensor(generator.normal(size=(6, module.observation_space.shape[0])).astype(np.float32))
        logged = torch.tensor(generator.uniform(-1, 1, (6, module.action_space.shape[0])).astype(np.float32))
        with torch.no_grad():
            served = module.forward_inference({"obs": obs})["actions"]
            trained = module.forward_train({"obs": obs, "actions": logged})
            q = [critic(obs, logged) for critic in module.critics]
        assert all(action in module.action_space for action in served.numpy())
        assert not torch.equal(served[0], served[1])
        assert torch.equal(trained["actions"], served)
        assert len(q) == {"IL": 0, "PrefRec": 1, "DDPG": 1}.get(method, 2)
        assert ("q" in trained) is bool(q)
        for column, values in enumerate(q):
            assert torch.equal(trained["q"][:, column], values)
    finally:
        algorithm.stop()


@pytest.mark.parametrize("method", METHODS)
def test_training_documents_every_setting(method: str) -> None:
    """A setting without an argument would not be completed by an editor, and one without a line not be explained."""
    config = METHODS[method].Config
    arguments: dict[str, str] = {}
    for cls in config.__mro__[: config.__mro__.index(AlgorithmConfig)]:
        training: Any = vars(cls).get("training")
        if training is not None:
            documented = re.findall(r"^ {12}(\w+): ", training.__doc__.partition("Returns:")[0], re.MULTILINE)
            names = list(inspect.signature(training).parameters)[1:]
            assert documented == names
            arguments |= dict.fromkeys(names, cls.__name__)
    arguments.pop("kwargs")
    assert set(arguments) == set(METHODS[method].Settings.model_fields)


def test_a_config_builds_its_own_method() -> None:
    for method, cls in METHODS.items():
        assert cls.Config().algo_class is cls, method
        assert isinstance(cls.get_default_config(), OfflineConfig)


class Inherited(METHODS["PrefRec"]):  # type: ignore[name-defined,misc]
    """A method of a user, with the config of its base class."""


def test_a_subclass_keeps_its_method_in_copies_of_its_config() -> None:
    config = Inherited.get_default_config()
    assert type(config) is METHODS["PrefRec"].Config
    assert (
        config.algo_class
        is config.copy().algo_class
        is type(config).from_state(config.get_state()).algo_class
        is Inherited
    )
