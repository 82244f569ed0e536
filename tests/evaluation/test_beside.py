"""Location of the evaluation of several policies."""

from dataclasses import replace
from pathlib import Path

import pytest
from hand_made import direction

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.records import Evaluation, write_evaluation
from prefrec_ray.evaluation.run import EvaluationRun, beside, load_named
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.storage.alias import point


@pytest.mark.parametrize(
    ("policies", "folder"),
    [
        (["runs/a/policy"], "runs/a"),
        (["runs/a/policy", "runs/b/policy/"], "runs"),
        (["a", "b"], "."),
        (["a/policy", "b/policy"], "."),
        (["/runs/a/policy", "/runs/b/policy"], "/runs"),
        (["/a/policy", "/b/policy"], "/"),
        (["s3://bucket/runs/a/policy", "s3://bucket/runs/b/policy"], "s3://bucket/runs"),
        (["s3://bucket/a/policy", "s3://bucket/b/policy"], "s3://bucket"),
        (["s3://bucket/a", "s3://bucket/b/policy"], "s3://bucket"),
        (["file:///runs/a/policy", "file:///runs/b/policy"], "file:///runs"),
    ],
)
def test_it_is_the_folder_that_holds_all(policies: list[str], folder: str) -> None:
    assert beside(policies).rstrip("/") == folder.rstrip("/")


def test_a_relative_path_and_an_absolute_one_have_one_too(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    assert beside(["runs/a/policy", f"{here}/runs/b/policy"]) == f"{here}/runs"


@pytest.mark.parametrize("other", ["s3://other/runs/b/policy", "gs://bucket/runs/b/policy", "runs/b/policy"])
def test_several_stores_need_an_output(other: str) -> None:
    with pytest.raises(UserError, match=f"{other}: no folder contains both; expected --output FILE"):
        beside(["s3://bucket/runs/a/policy", other])


def test_the_policy_that_was_given_twice_is_named(dataset: PreparedDataset, tmp_path: Path) -> None:
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    for place, uri in enumerate((one, two)):
        direction(dataset, 0.1, provenance={"method": "TD3", "seed": place}).save(uri)
    assert len(load_named([one, two])) == 2
    with pytest.raises(UserError, match=f"^{two}: given twice"):
        load_named([one, two, f"{two}/"])


@pytest.mark.parametrize(
    ("policies", "file"),
    [
        (["RUN/policy"], "RUN/evaluation.json"),
        (["RUN/policy/"], "RUN/evaluation.json"),
        (["RUN/constrained"], "RUN/constrained/evaluation.json"),
        (["RUN/current"], "RUN/current/evaluation.json"),
        (["RUN/policy", "RUN/constrained"], "RUN/evaluation.json"),
    ],
)
def test_every_policy_has_a_file_of_its_own(policies: list[str], file: str) -> None:
    run = EvaluationRun(policies, "dataset")
    assert (run.file, run.folder) == (file, "RUN")  # the report is of the run


def test_an_evaluation_does_not_overwrite_another_one(tmp_path: Path) -> None:
    policy, settings = f"{tmp_path}/policy", EvaluateSettings()
    first = EvaluationRun([policy], "dataset", settings)
    first.check_file()
    write_evaluation(first.file, Evaluation(records=(), inputs=first.inputs))
    first.check_file()  # the same again
    others = {
        "dataset": EvaluationRun([policy], "other", settings),
        "settings": EvaluationRun([policy], "dataset", EvaluateSettings(seed=1)),
        "online": EvaluationRun([policy], "dataset", settings, online=True),
        "policies": EvaluationRun([policy, f"{tmp_path}/constrained"], "dataset", settings),
    }
    for name, other in others.items():
        assert other.file == first.file
        with pytest.raises(
            UserError, match=f"evaluation.json: contains an evaluation with other {name}; name a new file"
        ):
            other.check_file()
        replace(other, output=f"{tmp_path}/{name}.json").check_file()
        replace(other, replace=True).check_file()
    for inputs in ("", ', "inputs": [1]'):
        (tmp_path / "evaluation.json").write_text(f'{{"schema_version": 1, "records": []{inputs}}}')
        with pytest.raises(UserError, match="contains an evaluation with other policies; name a new file"):
            first.check_file()


def test_an_alias_keeps_its_target(tmp_path: Path) -> None:
    """A folder of the alias's name would hide it."""
    (tmp_path / "nights" / "1").mkdir(parents=True)
    point(str(tmp_path / "current"), "nights/1")
    run = EvaluationRun([str(tmp_path / "current")], "dataset")
    assert run.bundles == [str(tmp_path / "nights" / "1")]
    assert run.file == str(tmp_path / "nights" / "1" / "evaluation.json")
    assert run.folder == str(tmp_path / "nights")
