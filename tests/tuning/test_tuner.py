"""What Ray Tune's own `Tuner` needs of the methods: names that are registered, folders relative to the user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefrec_ray import PrefRecConfig


def test_a_relative_folder_counts_from_where_the_run_was_started(
    tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune changes into a trial's folder, and says where the process was before."""
    started = Path(tiny_dataset).parent
    (tmp_path / "trial").mkdir()
    monkeypatch.chdir(tmp_path / "trial")
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(started))
    config = PrefRecConfig().update_from_dict({"input_": "dataset", "task": "depth"})
    config.validate()
    assert os.path.realpath(str(config.input_)) == os.path.realpath(tiny_dataset)


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
