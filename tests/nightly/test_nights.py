"""Two nights of the smallest platform by the command, and the mistakes of its YAML."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_platform import NETWORKS, logs_and_data

from prefrec_ray.cli.main import run
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import prepare
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.policy import Policy


def loop_yaml(folder: Path, **changes: Any) -> str:
    sections = logs_and_data(str(folder)) | {
        "train": {"validation": None, "config": {**NETWORKS, "num_epochs": 0.2, "updates_per_iteration": 4}},
        "evaluate": {"model": {"models": 2, "users": 10, "requests": 30}},
        "loop": {"folder": str(folder / "loop"), "release": "promote"},
        **changes,
    }
    file = folder / "loop.yaml"
    file.write_text(yaml.safe_dump({name: value for name, value in sections.items() if value is not None}))
    return str(file)


def test_a_night_and_one_without_news(
    short_fits: None, small_platform: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = loop_yaml(tmp_path, prepare=logs_and_data(str(small_platform))["prepare"])
    sections = yaml.safe_load(Path(config).read_text())
    assert run(["nightly", config]) == 0
    (line,) = map(json.loads, (tmp_path / "loop/nights.json").read_text().splitlines())
    assert line["status"] in ("kept", "promoted")
    assert line["done"] == ["check", "look", "prepare", "train", "evaluate", "report", "release"]
    logged = json.loads((small_platform / "logs/log.json").read_text())["counts"]
    assert (line["log"]["requests"], line["log"]["users"]) == (logged["interactions"], logged["users"])
    assert set(line["log"]["feedback"]) == {"click", "like", "watch_ratio", "follow", "share", "comment"}
    night = tmp_path / "loop/nights/0001"
    evaluation = json.loads((night / "run/evaluation.json").read_text())
    assert [verdict["verdict"] for verdict in evaluation["verdicts"].values()] == [line["verdict"]]
    assert "<html" in (night / "report.html").read_text()
    assert (tmp_path / "loop/current").exists() == (line["status"] == "promoted")

    capfd.readouterr()
    assert run(["nightly", config]) == 2
    captured = capfd.readouterr()
    assert "night 2: refused, 0 new impressions of 0 users; no new impressions" in captured.out
    assert captured.err.strip().splitlines()[-1].startswith("prefrec: error: ")
    assert sorted(path.name for path in (tmp_path / "loop/nights").iterdir()) == ["0001"]

    # Another log of the platform, with users and a scale of its own.
    prepare(PrepareSettings.model_validate({**sections["prepare"], "seed": 1}), f"{tmp_path}/other")
    policy = str(night / "run/policy")
    assert not np.array_equal(
        Policy.load(policy).normaliser.mean, PreparedDataset.open(f"{tmp_path}/other").normaliser.mean
    )
    evaluate = ["evaluate", policy, "--dataset", f"{tmp_path}/other", "--estimators", "model", "--config", config]
    assert run([*evaluate, "--output", f"{tmp_path}/evaluation.json"]) == 0
    assert len(json.loads((tmp_path / "evaluation.json").read_text())["verdicts"]) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train": None}, "section 'train' is missing; expected prepare, train, loop"),
        ({"train": {"dataset": "data"}}, "train: key 'dataset': found a data set; expected none"),
        ({"evaluate": {"estimators": ["ncis"]}}, "evaluate: key 'estimators': expected model"),
        ({"loop": {"keep": 3}}, "loop: key 'folder' is missing"),
        ({"loop": {"folder": "x", "promote": "none"}}, "found the key 'promote'; expected its new name 'release'"),
        ({"loop": {"folder": "x"}}, "loop: key 'release': found canary; expected promote or none with a source of "),
        (
            {"loop": {"folder": "x", "release": "promote", "compact_days": 2}},
            "loop: key 'compact_days': found a value; expected it only with a source of ",
        ),
        ({"loop": {"folder": "x", "accept": [0]}}, "loop: key 'accept.0': "),
        (
            {
                "prepare": {"source": {"kind": "events", "path": "events"}},
                "loop": {"folder": "x"},
                "serve": {"retention_days": 30},
            },
            "serve: key 'retention_days': found 30; expected at least 31, the days and the longest_days of loop.canary",
        ),
    ],
)
def test_a_mistake_in_the_yaml_is_one_line(
    changes: dict[str, Any], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["nightly", loop_yaml(tmp_path, **changes)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not (tmp_path / "loop").exists()
