"""Each mistake of a user: one line on stderr, exit status 2, nothing left behind."""

from pathlib import Path

import pytest

from prefrec_ray.cli.main import run

PREPARE = "prepare:\n  source:\n    kind: simulator\n    path: nowhere\n"
CASES = {
    "no file": (["simulate", "missing.yaml", "--output", "new"], "missing.yaml: no such file"),
    "no section": (["prepare", "simulate.yaml", "--output", "new"], "simulate.yaml: section 'prepare' is missing"),
    "unknown key": (["simulate", "typo.yaml", "--output", "new"], "unknown key 'usres'; did you mean 'users'?"),
    "output exists": (["simulate", "simulate.yaml", "--output", "there"], "there: already exists"),
    "no logs": (["prepare", "prepare.yaml", "--output", "new"], "nowhere"),
    "no data set named": (["train", "train.yaml"], "train.yaml: train: key 'dataset' is missing"),
    "no data set": (["train", "train.yaml", "--dataset", "nowhere", "--output", "new"], "nowhere"),
    "bad override": (["train", "train.yaml", "gama=1", "--dataset", "nowhere"], "did you mean 'gamma'?"),
    "run exists": (["train", "train.yaml", "--dataset", "nowhere", "--output", "there"], "there: already exists"),
    "no checkpoint": (["export", "there", "--output", "new"], "there: not a training checkpoint"),
    "no policy": (["evaluate", "there", "--dataset", "nowhere"], "nowhere"),
    "bad split": (["evaluate", "there", "--dataset", "x", "--split", "train"], "--split: unknown split 'train'"),
    "no run": (["report", "there"], "there: holds no run"),
    "quickstart exists": (["quickstart", "--output", "there"], "there: already exists"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("simulate.yaml").write_text("simulate:\n  users: 5\n")
    Path("typo.yaml").write_text("simulate:\n  usres: 5\n")
    Path("prepare.yaml").write_text(PREPARE)
    Path("train.yaml").write_text("train:\n  task: depth\n")
    Path("there").mkdir()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    arguments, message = CASES[case]
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("prefrec: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
