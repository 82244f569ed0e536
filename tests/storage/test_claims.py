"""One writer at a time on a disk. Claims of dead processes are removed with their unfinished files."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import soon

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.storage import claims

HOLD = """
import sys, time
from prefrec_ray import storage
with storage.claimed(sys.argv[1]) as partial:
    storage.make_folder(partial)
    print(partial, flush=True)
    time.sleep(600)
"""


def hold(output: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process with a claim on `output`; return it with its half-written folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_owner_is_named_and_then_outlived(tmp_path: Path) -> None:
    process, partial = hold(tmp_path / "run")
    try:
        with pytest.raises(UserError) as error, storage.claimed(str(tmp_path / "run")):
            pass
        assert f"{tmp_path}/run: process {process.pid} on " in str(error.value)
        # Neither a longer name nor a part of it is the same folder.
        with storage.claimed(str(tmp_path / "run.1")), storage.claimed(str(tmp_path / "ru")):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(left(tmp_path)) == 2
        with storage.claimed(f"{tmp_path}/run/"):
            assert not partial.exists()
        assert left(tmp_path) == []
    finally:
        process.kill()


def contend(output: str, start: Any, results: Any, end: Any) -> None:
    start.wait()
    try:
        with storage.claimed(output):
            results.put("won")
            end.wait()
    except UserError:
        results.put("lost")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PATIENCE", 0.5)


def test_of_several_at_once_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        start, results, end = context.Event(), context.Queue(), context.Event()
        arguments = (str(tmp_path / "run"), start, results, end)
        processes = [context.Process(target=contend, args=arguments) for _ in range(4)]
        for process in processes:
            process.start()
        start.set()
        answers = [results.get(timeout=soon(30)) for _ in processes]
        end.set()
        assert sorted(answers) == ["lost"] * 3 + ["won"]
        for process in processes:
            process.join()
    assert left(tmp_path) == []


def lay(output: Path, **changes: Any) -> Path:
    """Another's claim."""
    claim = output.with_name(f"{output.name}.00000000.claim")
    claim.write_text(json.dumps({**claims._owner(), **changes}))
    return claim


def test_another_hosts_claim_is_left_alone(tmp_path: Path) -> None:
    claim = lay(tmp_path / "run", host="elsewhere", machine="another", process=77)
    with pytest.raises(UserError) as error, storage.claimed(str(tmp_path / "run")):
        pass
    assert "process 77 on elsewhere writes there since 20" in str(error.value)
    assert f"if it has ended, remove {claim}" in str(error.value)
    assert left(tmp_path) == [claim.name]


def test_a_number_given_again_is_another_process(tmp_path: Path) -> None:
    lay(tmp_path / "run", started="1", process=os.getpid())
    with storage.claimed(str(tmp_path / "run")):
        pass
    assert left(tmp_path) == []


def test_a_damaged_claim_is_named(tmp_path: Path) -> None:
    claim = lay(tmp_path / "run")
    for text in ("", "[]", "{}"):
        claim.write_text(text)
        with pytest.raises(UserError, match=f"remove {claim}"), storage.claimed(str(tmp_path / "run")):
            pass


def test_who_comes_second_to_a_staged_folder_gets_one_line(tmp_path: Path) -> None:
    output = str(tmp_path / "data")
    with storage.staged(output, "last") as first:
        storage.write_text(f"{first}/last", "first")
        with pytest.raises(UserError, match="writes there since"), storage.staged(output, "last"):
            pass
    assert Path(output, "last").read_text() == "first"
    with pytest.raises(UserError, match="already exists"), storage.staged(output, "last"):
        pass
    assert left(tmp_path) == ["data"]


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path: Path) -> None:
    process, partial = hold(tmp_path / "data")
    (partial / "part").write_text("half")
    process.kill()
    process.wait()
    with storage.staged(str(tmp_path / "data"), "last") as folder:
        storage.write_text(f"{folder}/last", "whole")
    assert left(tmp_path) == ["data"]


def test_a_claim_that_a_killed_process_had_begun_goes_with_the_next(tmp_path: Path) -> None:
    others = ["data2.0a1b2c3d.claim.4e5f6a7b.partial", "data.0a1b2c3d.partial"]
    for name in (*others, "data.0a1b2c3d.claim.4e5f6a7b.partial"):
        (tmp_path / name).write_text("{")
    with storage.claimed(str(tmp_path / "data")):
        pass
    assert left(tmp_path) == sorted(others)


def test_a_claim_that_the_winner_removes_half_written_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, removed = os.fsync, list[Path]()

    def synced(handle: int) -> None:
        sync(handle)
        if not removed:
            removed.extend(tmp_path.glob("*.partial"))
            removed[0].unlink()

    monkeypatch.setattr(os, "fsync", synced)
    with storage.claimed(str(tmp_path / "data")) as partial:
        assert left(tmp_path) == [Path(partial).with_suffix(".claim").name]
    assert len(removed) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_where_nothing_may_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"), storage.claimed(str(tmp_path / "run")):
        pass
