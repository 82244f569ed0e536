"""The folders of checkpoints, without an algorithm: kept, skipped and trusted ones."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.runs.checkpoints import check_own, checkpoints, first_whole, read_rows, restore, save_checkpoint
from prefrec_ray.storage.checksums import MANIFEST, damage


class Algorithm:
    """The parts of an algorithm that a checkpoint needs."""

    iteration = 0

    def restore_from_path(self, folder: str) -> None:
        self.iteration = int(storage.read_text(f"{folder}/deep-state").split()[1])

    def save_to_path(self, folder: str) -> None:
        storage.write_text(f"{folder}/deep-state", f"after {self.iteration}")


def write(run: Path, iterations: int, keep: int, best: int | None = None) -> list[str]:
    """A run's checkpoints, one after each iteration; their names."""
    algorithm, rows = Algorithm(), []
    for iteration in range(1, iterations + 1):
        algorithm.iteration = iteration
        rows.append({"training_iteration": iteration, "loss": 0.1 + iteration})
        save_checkpoint(algorithm, str(run), keep, rows, best)
    return [Path(uri).name for uri in checkpoints(str(run))]


def test_the_last_ones_and_the_best(tmp_path: Path) -> None:
    assert write(tmp_path / "a", 5, keep=2) == ["checkpoint_000004", "checkpoint_000005"]
    assert write(tmp_path / "b", 5, keep=2, best=2) == ["checkpoint_000002", "checkpoint_000004", "checkpoint_000005"]
    assert sorted(path.name for path in tmp_path.rglob("*.claim")) == []


def test_a_checkpoint_holds_the_rows_until_there(tmp_path: Path) -> None:
    write(tmp_path, 3, keep=3)
    (_, local) = (uri for uri in checkpoints(str(tmp_path))[:2])
    assert read_rows(local) == [{"training_iteration": i, "loss": 0.1 + i} for i in (1, 2)]
    Path(local, "result.json").write_text("")
    assert damage(local) == "result.json was changed after it was written"


def test_damaged_ones_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 3, keep=3)
    (tmp_path / "checkpoint_000003" / MANIFEST).write_bytes(b"\xff{")
    (tmp_path / "checkpoint_000002" / "deep-state").write_text("after 9")
    with caplog.at_level(logging.WARNING), first_whole(reversed(checkpoints(str(tmp_path)))) as newest:
        assert newest == (f"{tmp_path}/checkpoint_000001", f"{tmp_path}/checkpoint_000001")
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        f"damaged (no readable {MANIFEST}); skipped",
        "damaged (deep-state was changed after it was written); skipped",
    ]
    with first_whole([]) as newest:
        assert newest is None


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_files_of_another_user(tmp_path: Path) -> None:
    write(tmp_path, 1, keep=1)
    check_own(str(tmp_path))
    file = tmp_path / "checkpoint_000001/deep-state"
    os.chown(file, 12345, -1)
    with pytest.raises(UserError, match=f"{file}: found a file of user 12345, and checkpoints run code"):
        check_own(str(tmp_path))


def test_a_run_goes_on_from_its_newest_whole_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 4, keep=4)
    (tmp_path / "checkpoint_000004" / MANIFEST).write_text("{}")
    (tmp_path / "checkpoint_000003" / MANIFEST).unlink()
    algorithm, messages = Algorithm(), list[str]()
    rows = restore(algorithm, str(tmp_path), messages.append)
    assert (algorithm.iteration, messages) == (2, ["resuming from iteration 2"])
    assert [row["training_iteration"] for row in rows] == [1, 2]
    assert len((tmp_path / "progress.csv").read_text().splitlines()) == 3
    assert [Path(uri).name for uri in checkpoints(str(tmp_path))] == ["checkpoint_000001", "checkpoint_000002"]


def test_what_was_never_finished_starts_all_over_and_what_is_damaged_is_left_to_the_user(tmp_path: Path) -> None:
    write(tmp_path, 1, keep=1)
    manifest = tmp_path / "checkpoint_000001" / MANIFEST
    manifest.write_text('{"iteration": 1, "score": null, "files": {}}')  # of an earlier version
    messages: list[str] = []
    with pytest.raises(UserError, match="no checkpoint is complete and of this version"):
        restore(Algorithm(), str(tmp_path), messages.append)
    assert manifest.exists()
    manifest.unlink()
    assert restore(Algorithm(), str(tmp_path), messages.append) == []
    assert messages == ["no complete checkpoint: from the start"]
    assert checkpoints(str(tmp_path)) == []
