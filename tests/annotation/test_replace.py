"""Replaced labels: after any interruption of the import, either the old or the new labels are read."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefrec_ray import storage
from prefrec_ray.annotation import labels as imports
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepared import Metadata

PARTS = ("train", "validation", "votes")


class Killed(BaseException):
    """No cleaning up after it: from then on every call that changes a file raises it too."""


def labels(value: float) -> dict[str, pa.Table]:
    return {part: pa.table({"label": [value]}) for part in PARTS}


def read(folder: Path) -> list[float]:
    """Return the contents of the three files as training reads them."""
    dataset = PreparedDataset(str(folder), Metadata.model_construct())
    assert dataset.people() == ["crowd"]
    return [dataset.read(dataset.people_path("crowd", part))["label"][0].as_py() for part in PARTS]


def write(folder: Path, value: float) -> None:
    imports.write_labels(str(folder / "people" / "crowd"), labels(value), {"name": "crowd", "ties": value}, True)


class Steps:
    """Counts the steps that change files, and stops at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
        self.left, self.error = at, error
        for where, name in ((storage, "make_folder"), (imports, "write_parquet"), (storage, "write_json")):
            monkeypatch.setattr(where, name, self.counted(getattr(where, name)))
        monkeypatch.setattr(storage, "remove", self.counted(storage.remove, isinstance(error, Killed)))

    def counted(self, step: Any, counts: bool = True) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            self.left -= counts
            if counts and (self.left == 0 or (self.left < 0 and isinstance(self.error, Killed))):
                raise self.error
            return step(*arguments, **options)

        return run


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Killed()], ids=["full disk", "kill"])
def test_at_every_step_the_old_labels_are_there_or_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    seen = []
    for step in range(1, 20):
        folder = tmp_path / str(step)
        write(folder, 0.0)
        with monkeypatch.context() as patch:
            Steps(patch, step, error)
            try:
                write(folder, 1.0)
            except (OSError, Killed):
                stopped = True
            else:
                stopped = False
        seen.append(set(read(folder)))
        if isinstance(error, OSError) and stopped:  # nothing of the attempt is left
            assert sorted(p.name for p in folder.rglob("*") if p.is_dir()) == ["1", "crowd", "people"]
        write(folder, 2.0)  # and the next import goes through
        assert read(folder) == [2.0, 2.0, 2.0]
        assert len([p for p in folder.rglob("*") if p.is_file()]) == 4
        if not stopped:
            break
    assert not stopped
    assert len(seen) >= 6
    turn = seen.index({1.0})
    assert seen == [{0.0}] * turn + [{1.0}] * (len(seen) - turn)


def test_a_first_import_that_is_stopped_is_no_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        Steps(patch, 5, Killed())
        with pytest.raises(Killed):
            write(tmp_path, 0.0)
    assert PreparedDataset(str(tmp_path), Metadata.model_construct()).people() == []
    write(tmp_path, 1.0)
    assert read(tmp_path) == [1.0, 1.0, 1.0]
