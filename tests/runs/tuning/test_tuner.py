"""Requirements of Ray Tune's `Tuner`: registered names, and folders relative to the user's folder."""

from __future__ import annotations

import dis
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from patience import soon
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from tiny import SHORT_RUN

from prefrec_ray import PrefRecConfig
from prefrec_ray.algorithms import METHODS
from prefrec_ray.algorithms.feed import load
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.runs.export import export_policy

#: A user's script in the folder of the data set, with one trial per processor at a time.
SCRIPT = """
import json, os, sys

import ray
from ray import tune

from prefrec_ray import PrefRec

ray.init("local", num_cpus=2, include_dashboard=False)
space = {"input_": "dataset", "task": "depth", **json.loads(sys.argv[1]), "gamma": tune.grid_search([0.5, 0.9])}
results = tune.Tuner(
    "PrefRec", param_space=space, run_config=tune.RunConfig(storage_path=os.path.abspath("results"))
).fit()
trials = [
    {
        "error": str(result.error or ""),
        "gamma": result.config["gamma"],
        "progress": result.metrics["progress"],
        "qf_loss": result.metrics["losses"]["qf_loss"],
        "checkpoint": result.checkpoint.path,
    }
    for result in results
]
with open("trials.json", "w") as file:
    json.dump(trials, file)
"""


def test_a_relative_folder_counts_from_where_the_run_was_started(
    tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune changes into a trial's folder, and provides the earlier folder."""
    started = Path(tiny_dataset).parent
    (tmp_path / "trial").mkdir()
    monkeypatch.chdir(tmp_path / "trial")
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(started))
    config = PrefRecConfig().update_from_dict({"input_": "dataset", "task": "depth"})
    config.validate()
    assert os.path.realpath(config.dataset.uri) == os.path.realpath(tiny_dataset)


def test_what_needs_no_ray_and_importing_a_method_registers_all() -> None:
    """Both in one process, which takes seconds to import torch."""
    code = (
        "import importlib, sys\n"
        "for name in ('policy', 'reports.page', 'runs.tuning.settings'):\n"
        "    importlib.import_module(f'prefrec_ray.{name}')\n"
        "    assert 'ray' not in sys.modules, name\n"
        "from prefrec_ray import PrefRec\n"
        "from ray.tune.registry import get_trainable_cls\n"
        "import prefrec_ray.algorithms as a\n"
        "assert all(get_trainable_cls(name) is method for name, method in a.METHODS.items())\n"
        "assert [m.Settings for m in a.METHODS.values()] == list(a.SETTINGS.values())\n"
        "assert get_trainable_cls('PrefRec') is PrefRec\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_no_attribute_of_a_method_leads_back_to_it(method: type) -> None:
    """Ray disassembles the class of a trial, and every class among its attributes, without an end if one leads back."""
    dis.dis(method, file=io.StringIO())


@pytest.mark.ray
def test_a_users_script_runs_trials_on_all_processors(tiny_dataset: str, tmp_path: Path) -> None:
    """Two trials hold both processors while they load: tasks that need one would never start."""
    (tmp_path / "dataset").symlink_to(tiny_dataset)
    subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(SHORT_RUN)], cwd=tmp_path, check=True, timeout=100)
    trials = json.loads((tmp_path / "trials.json").read_text())
    assert [(trial["error"], trial["gamma"], trial["progress"]) for trial in trials] == [("", 0.5, 1), ("", 0.9, 1)]
    losses = [trial["qf_loss"] for trial in trials]
    assert np.isfinite(losses).all()
    assert losses[0] != losses[1]
    policy = export_policy(trials[0]["checkpoint"], str(tmp_path / "policy"))
    assert policy.provenance["method"] == "PrefRec"


def test_what_a_trial_reads_is_what_tasks_read(tiny_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a placement group whose one CPU the reader itself holds."""
    request = PrefRecConfig().offline_data(input_=tiny_dataset).training(task="depth").data_request

    class Trial:
        def read(self) -> tuple[list[int], list[pa.Table], list[dict[str, np.ndarray]]]:
            data = load_data(request)
            buffers = [vars(ray.get(buffer)) for buffer in (data.preferences, data.held_out)]
            return data.sizes, ray.get(data.shards), [*buffers, {"probe": ray.get(data.probe)}]

    group = placement_group([{"CPU": 1}])
    inside = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    try:
        trial = ray.remote(num_cpus=1)(Trial).options(scheduling_strategy=inside).remote()
        sizes, shards, arrays = ray.get(trial.read.remote(), timeout=soon(60))
    finally:
        remove_placement_group(group)
    monkeypatch.setattr(load, "SMALL_BYTES", 0)
    sizes_by_tasks, shards_by_tasks, arrays_by_tasks = Trial().read()
    assert sizes == sizes_by_tasks
    assert shards == shards_by_tasks
    for those, others in zip(arrays, arrays_by_tasks, strict=True):
        for name, value in others.items():
            np.testing.assert_array_equal(those[name], value, err_msg=name)
