"""`prefrec push` and `pull`, and hf:// as a path, against a stand-in of the Hugging Face Hub."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_server import Hub, hub_server
from made_records import made_record
from platform_desk import make_policy
from tiny import write_dataset

from prefrec_ray import storage
from prefrec_ray.cli.main import run
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.results.records import Evaluation, PolicyVerdict, write_evaluation
from prefrec_ray.policy import Policy
from prefrec_ray.storage.alias import point

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.chdir(tmp_path)
        yield server


def test_a_policy_there_and_back(hub: Hub, tmp_path: Path) -> None:
    policy = make_policy()
    policy.save(str(tmp_path / "policy"))
    assert run(["push", "policy", "hf://me/feed"]) == 0
    assert hub.commits == 1
    assert hub.private == {"me/feed"}
    files = hub.repositories["models", "me/feed"]
    _, header, text = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "prefrec-ray"
    assert f"| items | {len(policy.items)} |" in text
    assert "No evaluation of this policy was found." in text

    assert run(["pull", "hf://me/feed", "--output", "again"]) == 0
    assert {str(file.relative_to("again")) for file in Path("again").rglob("*") if file.is_file()} == set(files)
    states = np.random.default_rng(0).normal(size=(5, policy.state.width)).astype(np.float32)
    expected = policy.act(states)
    np.testing.assert_array_equal(Policy.load("again").act(states), expected)
    np.testing.assert_array_equal(Policy.load("hf://me/feed").act(states), expected)


@pytest.mark.parametrize("source", ["policy/", "absolute", "alone", "alias"])
def test_the_card_of_a_policy_has_its_verdict(hub: Hub, tmp_path: Path, source: str) -> None:
    """The evaluation is beside the policy, in the policy, or in the folder of several runs."""
    bundle, file = ("runs/a/policy", "runs/evaluation.json") if source == "absolute" else ("policy", "evaluation.json")
    make_policy().save(bundle)
    if source == "alone":
        file = "policy/evaluation.json"
    if source == "alias":
        point("current", "policy")
    records = (made_record("mine", 1.3, bundle=bundle), made_record("other", 2.0))
    verdicts = {
        name: PolicyVerdict(verdict="no_difference", reasons=(f"Of {name}.",), lights=()) for name in ("mine", "other")
    }
    write_evaluation(file, Evaluation(records=records, verdicts=verdicts))
    named = {"absolute": str(tmp_path / bundle), "alone": bundle, "alias": "current"}.get(source, source)
    assert run(["push", named, "hf://me/feed"]) == 0
    card = hub.repositories["models", "me/feed"]["README.md"].decode()
    assert "Evaluation: **no difference**. Of mine." in card
    assert "Of other." not in card


def test_the_names_and_votes_of_annotators_stay_here(hub: Hub, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", users=4, requests=20, pairs=4, length=3)
    folder = tmp_path / "data" / "people" / "team" / "1"
    folder.mkdir(parents=True)
    (folder / "votes.parquet").write_bytes(b"anna voted")
    about = {"version": 1, "annotators": [{"annotator": "anna", "votes": 3}]}
    (folder.parent / "people.json").write_text(json.dumps(about))
    assert run(["push", "data", "hf://datasets/me/data"]) == 0
    files = hub.repositories["datasets", "me/data"]
    assert not [name for name, content in files.items() if b"anna" in content]
    assert json.loads(files["people/team/people.json"])["annotators"] == [{"annotator": "1", "votes": 3}]


def test_a_data_set_has_its_counts_in_its_card(hub: Hub, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", users=4, requests=20, pairs=4, length=3)
    assert run(["push", "data", "hf://datasets/me/data"]) == 0
    card = hub.repositories["datasets", "me/data"]["README.md"].decode()
    assert "| train | {'users': 4, " in card
    assert "'requests': 80" in card
    assert run(["pull", "hf://datasets/me/data", "--output", "again"]) == 0
    assert stat.S_IMODE(Path("again").stat().st_mode) == 0o700
    opened = PreparedDataset.open("hf://datasets/me/data")
    np.testing.assert_array_equal(
        opened.arrays("transitions")["obs"], PreparedDataset.open("data").arrays("transitions")["obs"]
    )


def test_a_path_on_the_hub_is_read_like_others(hub: Hub) -> None:
    hub.repositories["datasets", "me/data"] = {"a/x.json": b'{"n": 1}', "a/b/y.json": b"{}", "z.txt": b"text"}
    assert storage.read_json("hf://datasets/me/data/a/x.json") == {"n": 1}
    assert storage.exists("hf://datasets/me/data/a")
    assert not storage.exists("hf://datasets/me/data/c")
    assert storage.list_files("hf://datasets/me/data/a", ".json") == ["hf://datasets/me/data/a/x.json"]
    assert storage.list_folders("hf://datasets/me/data/a") == ["hf://datasets/me/data/a/b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "policy", "hf://datasets/me/feed"], "hf://datasets/me/feed: found a dataset; expected"),
        (["push", "policy", "s3://me/feed"], "s3://me/feed: expected hf://NAME/REPOSITORY, or hf://datasets/"),
        (["push", "nothing", "hf://datasets/me/feed"], "nothing: no such folder; expected a policy or a data set"),
        (["pull", "hf://me/none", "--output", "there"], "hf://me/none: the Hub refuses ("),
        (["pull", "hf://a--b/c", "--output", "there"], "hf://a--b/c: the Hub refuses (Cannot have -- or .. in repo_id"),
    ],
)
def test_a_mistake_is_one_line(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    make_policy().save(str(tmp_path / "policy"))
    assert run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"prefrec: error: {message}")
    assert error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["policy"]
    assert hub.commits == 0


def test_a_hub_that_is_away_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(["pull", "hf://me/feed", "--output", str(tmp_path / "there")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("prefrec: error: hf://me/feed: the Hub refuses (")
    assert error.count("\n") == 1
