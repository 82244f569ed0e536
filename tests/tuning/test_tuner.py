"""Ray Tune's own `Tuner` runs the methods: by class, by name, with relative folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from prefrec_ray import PrefRec, PrefRecConfig

SMALL: dict[str, Any] = {
    "task": "depth",
    "hidden_sizes": (8,),
    "train_batch_size_per_learner": 64,
    "preference_batch_size": 16,
    "pretrain_epochs": 0.2,
    "num_epochs": 0.2,
}


pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.parametrize("trainable", ["PrefRec", PrefRec], ids=["name", "class"])
def test_a_mapping_with_a_relative_folder(
    tiny_dataset: str, trainable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = {**SMALL, "input_": os.path.relpath(tiny_dataset), "expectile": tune.grid_search([0.6, 0.8])}
    run = tune.RunConfig(storage_path=str(tmp_path / "runs"), verbose=0, stop={"training_iteration": 1})
    results = tune.Tuner(trainable, param_space=space, run_config=run).fit()
    assert not results.errors
    assert sorted(result.config["expectile"] for result in results) == [0.6, 0.8]


def test_a_config(tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(tiny_dataset).parent)
    space = PrefRecConfig().offline_data(input_=Path(tiny_dataset).name).training(**SMALL)
    run = tune.RunConfig(storage_path=str(tmp_path / "runs"), verbose=0, stop={"training_iteration": 1})
    (result,) = tune.Tuner(PrefRec, param_space=space, run_config=run).fit()
    assert result.error is None


def test_importing_a_method_registers_all_and_a_policy_needs_no_ray() -> None:
    code = (
        "import sys, prefrec_ray, prefrec_ray.policy, prefrec_ray.runs.settings, prefrec_ray.tuning.settings\n"
        "assert 'ray' not in sys.modules, 'ray came along'\n"
        "from prefrec_ray import PrefRec\n"
        "from ray.tune.registry import get_trainable_cls\n"
        "import prefrec_ray.algorithms as a\n"
        "assert all(get_trainable_cls(name) is method for name, method in a.METHODS.items())\n"
        "assert [m.Settings for m in a.METHODS.values()] == list(a.SETTINGS.values())\n"
        "assert get_trainable_cls('PrefRec') is PrefRec is prefrec_ray.PrefRec\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
