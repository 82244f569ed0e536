"""When a file was written."""

import os
from datetime import UTC, datetime
from pathlib import Path

from prefrec_ray import storage


def test_when_a_file_was_written_is_told_in_utc(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert storage.written(str(file)) is None
    file.write_text("x")
    moment = datetime(2024, 2, 29, 23, 59, tzinfo=UTC)
    os.utime(file, (moment.timestamp(), moment.timestamp()))
    assert storage.written(str(file)) == moment
