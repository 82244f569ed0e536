"""Every mistake in a section `tune` is one line that names the key, before anything is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefrec_ray import errors, storage
from prefrec_ray.cli.config import parse_section
from prefrec_ray.cli.main import run
from prefrec_ray.errors import UserError

RATE = {"actor_lr": {"loguniform": [1e-5, 1e-3]}}
ASHA = {"scheduler": "asha", "metric": "reward/accuracy_within_user"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"methd": "PrefRec"}, "key 'methd': unknown key; did you mean 'method'?"),
    ({"method": ["PrefRec", "TD3BC"]}, "found 'TD3BC'; did you mean 'TD3_BC'?"),
    ({"method": []}, "key 'method': a grid of zero trials"),
    ({"seeds": []}, "key 'seeds': a grid of zero trials"),
    ({"seeds": [1, 1]}, "key 'seeds': expected each value once"),
    ({"seeds": [-1]}, "key 'seeds.0': expected greater than or equal to 0, found -1"),
    ({"seeds": [2**32]}, "key 'seeds.0': expected less than 4294967296"),
    ({"search": {"seed": {"grid": [1, 2]}}}, "key 'search.seed': belongs to the section itself; expected seeds: there"),
    ({"base": {"task": "depth"}}, "key 'base.task': belongs to the section itself; expected task: there"),
    ({"task": "dept"}, "key 'task.0': expected 'depth', 'frequency' or 'mixture', found 'dept'"),
    ({"base": {"gama": 0.9}}, "method PrefRec: key 'base.gama': unknown key; did you mean 'gamma'?"),
    ({"search": {"expectle": {"grid": [0.5]}}}, "key 'search.expectle': unknown key; did you mean 'expectile'?"),
    ({"method": "DDPG", "search": {"expectile": {"grid": [0.5]}}}, "method DDPG: key 'search.expectile': unknown key"),
    ({"search": {"gamma": {"grid": []}}}, "grid is empty: no trial would be run"),
    ({"search": {"expectile": {"grid": [0.5, 1.5]}}}, "key 'search.expectile': expected less than 1, found 1.5"),
    ({"search": {"pairing": {"grid": ["users"]}}}, "key 'search.pairing': expected 'any_users' or 'within_user'"),
    ({"search": {"gamma": {"uniform": [0.9, 1.5]}}}, "key 'search.gamma': expected less than 1, found 1.5"),
    ({"search": {"gamma": {"grid": ["high"]}}}, "key 'search.gamma': expected a number, found 'high'"),
    ({"search": {"gamma": {"normal": [0, 1]}}}, "key 'search.gamma.normal': unknown key; did you mean"),
    ({"search": {"gamma": {"uniform": [0, 1], "grid": [0.5]}}}, "expected exactly one of grid, choice, uniform"),
    ({"search": {"gamma": {"uniform": [0.9, 0.8]}}}, "uniform: expected the lower bound first"),
    ({"search": {"gamma": {"loguniform": [0, 1]}}}, "loguniform: expected bounds above 0"),
    ({"search": {"gamma": {"grid": [0.9], "methods": ["IQL"]}}}, "'IQL' is not in this sweep"),
    (
        {"search": {"preference_batch_size": {"uniform": [16, 64]}}},
        "key 'search.preference_batch_size': found uniform, for a setting of whole numbers; expected grid or choice",
    ),
    ({"search": {"transitions": {"grid": ["auto"]}}, "metric": "transitions"}, "no trial reports 'transitions'"),
    ({"metric": "reward/acuracy_within_user"}, "no trial reports 'reward/acuracy_within_user'; did you mean"),
    ({"method": "json:loads"}, "'json:loads' is not a method"),
    ({"metric": "validation/ncis"}, "no trial reports 'validation/ncis'; set validation"),
    ({"metric": "validation/online", "validation": {}}, "no trial reports 'validation/online'"),
    ({"num_samples": 3}, "key 'num_samples': found 3, but no key of 'search' is drawn"),
    ({"resources": {"custom": {"GPU": 1}}}, "key 'resources.custom': expected resources other than CPU and GPU"),
    ({"scheduler": "hyperband"}, "key 'scheduler.name': expected 'none' or 'asha'"),
    ({"scheduler": "asha"}, "key 'metric' is missing; asha needs one"),
    ({**ASHA, "scheduler": {"name": "asha", "grace_iterations": 2_000_000}}, "less than or equal to 1000000"),
    ({**ASHA, "task": ["depth", "mixture"]}, "asha compares trials, and tasks have no common scale"),
    ({**ASHA, "metric": "validation/model", "validation": {}}, "expected validation.every: 1"),
    (
        {**ASHA, "scheduler": "none", "searcher": "optuna", "search": {"gamma": {"grid": [0.9]}}},
        "choice instead of grid",
    ),
    ({**ASHA, "searcher": "optuna", "search": RATE, "seeds": [0, 1]}, "takes one seed, found 2"),
]


@pytest.mark.parametrize(("section", "message"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_sections(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_section("tune", section, "a.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("a.yaml: tune: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "section", "package", "extra"),
    [
        ("tune", {**ASHA, "searcher": "optuna", "search": RATE}, "optuna", "search"),
        ("tracking", {"mlflow": "http://host:5000"}, "mlflow", "mlflow"),
        ("tracking", {"wandb": "shop"}, "wandb", "wandb"),
    ],
)
def test_a_package_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, name: str, section: dict[str, Any], package: str, extra: str
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"{package} is not installed; .*pip install '\.\[{extra}\]'"):
        parse_section(name, section, "a.yaml")


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["tune", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_folders_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("tune: {method: IL}\n")
    output, dataset = str(tmp_path / "sweep"), ["--dataset", str(tmp_path / "data")]
    assert "key 'dataset' is missing" in cli(capsys, str(file), "--output", output)
    with storage.claimed(output):
        assert "writes there since" in cli(capsys, str(file), "--output", output, "--resume", *dataset)
    Path(output).mkdir()
    Path(output, "mine").touch()
    assert "nothing to resume" in cli(capsys, str(file), "--output", output, "--resume", *dataset)
    Path(output, "sweep.json").write_text("[]")
    assert "sweep.json: found list; expected" in cli(capsys, str(file), "--output", output, "--resume", *dataset)
    Path(output, "sweep.json").write_text('{"dataset": "other", "more": 1}')
    assert "started with dataset = 'other'" in cli(capsys, str(file), "--output", output, "--resume", *dataset)
    assert "already exists; continue it by --resume" in cli(capsys, str(file), "--output", output, *dataset)
