"""Location of the evaluation of several policies."""

from pathlib import Path

import pytest
from hand_made import direction

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.run import beside, load_named


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
    with pytest.raises(UserError, match=f"{other}: no folder holds both; expected --output FILE"):
        beside(["s3://bucket/runs/a/policy", other])


def test_the_policy_that_was_given_twice_is_named(dataset: PreparedDataset, tmp_path: Path) -> None:
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    for place, uri in enumerate((one, two)):
        direction(dataset, 0.1, provenance={"method": "TD3", "seed": place}).save(uri)
    assert len(load_named([one, two])) == 2
    with pytest.raises(UserError, match=f"^{two}: given twice"):
        load_named([one, two, f"{two}/"])
