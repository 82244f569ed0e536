"""Only public interfaces of Ray: no module, attribute or overridden method whose name begins with an underscore."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.offline.offline_data import OfflineData

ROOT = Path(__file__).parents[1]
FILES = sorted(file for folder in ("prefrec_ray", "benchmarks", "tests") for file in (ROOT / folder).rglob("*.py"))
#: Classes of Ray that the project extends or holds.
CLASSES = (
    Algorithm,
    AlgorithmConfig,
    LearnerGroup,
    OfflineData,
    TorchLearner,
    TorchRLModule,
    tune.Callback,
    tune.Trainable,
)


def private_names() -> set[str]:
    """Private methods and attributes of `CLASSES`, and of Ray's classes that they extend."""
    classes = {base for one in CLASSES for base in one.__mro__ if base.__module__.startswith("ray.")}
    return {name for one in classes for name in re.findall(r"(?:def |self\.)(_[a-z]\w*)", inspect.getsource(one))}


def found_in(text: str, private: set[str]) -> set[str]:
    """Private parts of Ray in the source `text`."""
    modules = set(re.findall(r"\bray(?:\.[a-z]\w*)*\._[a-z]\w*", text))
    if not re.search(r"\bray(\.| import )(rllib|tune)|learner_group", text):
        return modules
    nodes = list(ast.walk(ast.parse(text)))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    bodies = [node.body for node in nodes if isinstance(node, ast.ClassDef)]
    methods = {node.name for body in bodies for node in body if isinstance(node, ast.FunctionDef)}
    return modules | (private & (attributes | methods))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from ray.train._internal.session import get_session", {"ray.train._internal"}),
        ("import ray\nray._raylet.GcsClient", {"ray._raylet"}),
        ("learner = algorithm.learner_group._learner", {"_learner"}),
        ("from ray import rllib\nimport ray.rllib\nclass A:\n    def _setup_logdir(self): ...", {"_setup_logdir"}),
        ("import ray\nray.get(self._own)", set()),
    ],
)
def test_private_parts_are_found(text: str, expected: set[str]) -> None:
    assert found_in(text, private_names()) == expected


def test_no_private_part_of_ray_is_used() -> None:
    private = private_names()
    found = {str(file.relative_to(ROOT)): found_in(file.read_text("utf-8"), private) for file in FILES}
    del found["tests/test_public_ray.py"]
    found["prefrec_ray/algorithms/base/module.py"] -= {
        "_forward",
        "_forward_train",
    }  # RLlib asks modules to override them
    assert {file: names for file, names in found.items() if names} == {}
