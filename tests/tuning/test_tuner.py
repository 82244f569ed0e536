"""Ray Tune's own `Tuner` runs the methods: by name, by class, from a config, with a folder relative to the script's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from ray import tune
from prefrec_ray import PrefRec, PrefRecConfig
from prefrec_ray.runtime import start_ray

start_ray(num_cpus=2)
small = dict(task="depth", hidden_sizes=(8,), train_batch_size_per_learner=64, preference_batch_size=16)
small |= dict(pretrain_epochs=0.2, num_epochs=0.2)
run = tune.RunConfig(storage_path=sys.argv[1], verbose=0, stop={"training_iteration": 1})
space = {**small, "input_": "dataset", "expectile": tune.grid_search([0.6, 0.8])}
for trainable in ("PrefRec", PrefRec):
    results = tune.Tuner(trainable, param_space=space, run_config=run).fit()
    assert not results.errors
    assert sorted(result.config["expectile"] for result in results) == [0.6, 0.8]
config = PrefRecConfig().offline_data(input_="dataset").training(**small)
(result,) = tune.Tuner(PrefRec, param_space=config, run_config=run).fit()
assert result.error is None and result.metrics["training_iteration"] == 1
print("all ran")
"""


def test_by_name_by_class_and_from_a_config(tiny_dataset: str, tmp_path: Path) -> None:
    folder = Path(tiny_dataset).parent
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.stdout.endswith("all ran\n"), done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("module", ["prefrec_ray", "prefrec_ray.policy", "prefrec_ray.tuning.settings"])
def test_what_needs_no_ray(module: str) -> None:
    code = f"import sys, {module}; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_a_method_registers_all() -> None:
    code = (
        "from prefrec_ray import PrefRec\n"
        "from ray.tune.registry import get_trainable_cls\n"
        "import prefrec_ray.algorithms as a\n"
        "assert all(get_trainable_cls(name) is method for name, method in a.METHODS.items())\n"
        "assert [m.Settings for m in a.METHODS.values()] == list(a.SETTINGS.values())\n"
        "assert get_trainable_cls('PrefRec') is PrefRec\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
