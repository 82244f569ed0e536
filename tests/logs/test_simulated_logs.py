"""A folder that is not a log of the simulator is reported in one line."""

import json
from pathlib import Path

import pytest
from event_log import ABOUT

from prefrec_ray.errors import UserError
from prefrec_ray.logs.readers.simulator import open_log
from prefrec_ray.logs.sources import SimulatorSource


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ([1], "found schema version None; expected 1 (kind: events reads the folder of a server)"),
        ({"schema_version": 1}, "key 'feedback' is missing; expected a log of `prefrec simulate`"),
        (
            {"schema_version": 2, **ABOUT},
            "found schema version 2; expected 1 (kind: events reads the folder of a server)",
        ),
    ],
)
def test_another_log_json_is_one_line(tmp_path: Path, about: object, words: str) -> None:
    (tmp_path / "log.json").write_text(json.dumps(about))
    with pytest.raises(UserError) as caught:
        open_log(SimulatorSource(kind="simulator", path=str(tmp_path)))
    assert str(caught.value) == f"{tmp_path}/log.json: {words}"
