"""The checkpoint from which a trial resumes, and its resource demands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import tune

from prefrec_ray.errors import UserError
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runs.tuning.trial import SweepTrial, resources
from prefrec_ray.storage import checksums


class Recorded(SweepTrial):
    """A trial without an algorithm: `loaded` is the checkpoint that it went on from."""

    def setup(self, config: dict) -> None:
        self.loaded, self.name, self.plan = "", "trial", SimpleNamespace(output=config["output"])
        self.algorithm = SimpleNamespace(restore_from_path=self.load, iteration=0)

    def load(self, folder: str) -> None:
        self.loaded = Path(folder).name

    def cleanup(self) -> None:
        pass


def checkpoint(trial: Path, number: int, whole: bool = True) -> None:
    folder = trial / f"checkpoint_{number:06d}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"weights {number}")
    if whole:
        checksums.seal(str(folder))


@pytest.mark.parametrize(("named", "expected"), [(1, 1), (0, 2), (3, 2)])
def test_the_one_that_is_named_or_where_it_is_gone_or_damaged_the_newest_whole_one(
    tmp_path: Path, named: int, expected: int
) -> None:
    folder = tmp_path / "trial"
    checkpoint(folder, 1)
    checkpoint(folder, 2)
    checkpoint(folder, 3, whole=False)
    (folder / "progress.csv").write_text("")
    trial = Recorded({"output": str(tmp_path)})
    trial.restore(tune.Checkpoint(str(folder / f"checkpoint_{named:06d}")))
    assert trial.loaded == f"checkpoint_{expected:06d}"


def test_where_none_is_whole_the_trial_says_that_its_own_is_gone(tmp_path: Path) -> None:
    checkpoint(tmp_path / "trial", 3, whole=False)
    where = tune.Checkpoint(str(tmp_path / "trial" / "checkpoint_000002"))
    with pytest.raises(ValueError, match="does not exist"):
        Recorded({"output": str(tmp_path)}).restore(where)
    damaged = tune.Checkpoint(str(tmp_path / "trial" / "checkpoint_000003"))
    with pytest.raises(UserError, match="its checkpoint is damaged"):
        Recorded({"output": str(tmp_path)}).restore(damaged)


@pytest.mark.parametrize(
    ("base", "section", "bundles"),
    [
        ({}, {}, [{"CPU": 1.0}]),
        ({"num_gpus_per_learner": 1}, {}, [{"CPU": 1.0, "GPU": 1.0}]),
        ({"num_gpus_per_learner": 1}, {"gpus": 0.25}, [{"CPU": 1.0, "GPU": 0.25}]),
        ({"num_gpus_per_learner": 1, "num_learners": 2}, {}, [{"CPU": 1.0}, *[{"CPU": 1.0, "GPU": 1.0}] * 2]),
    ],
)
def test_what_a_trial_asks_for(base: dict, section: dict, bundles: list[dict[str, float]]) -> None:
    settings = TuneSettings.model_validate({"base": base, "resources": section})
    assert resources({"trial": {"config": {}}}, settings).bundles == bundles
