"""Files of a loop: a flipped bit, and a policy of another night than the last promoted one, are refused."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.nightly.folder import LoopFolder, Night
from prefrec_ray.serving.settings import ServeSettings, read_release


@pytest.fixture
def loop(tmp_path: Path) -> LoopFolder:
    folder = LoopFolder(str(tmp_path))
    for night in (1, 2, 3):
        folder.write(Night(night=night, began="2026-12-03", settings="a", why="seal:0000000000000000"))
    folder.promote(1)
    folder.promote(2)
    folder.begin_canary(3, 0.1, 1_700_000_000_000)
    return folder


@pytest.mark.parametrize("name", ["current.json", "nights.json"])
def test_no_flipped_bit_changes_what_is_served_or_recorded(loop: LoopFolder, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    whole, before = file.read_bytes(), (read_release(loop.current, ServeSettings()), loop.record(), loop.nights())
    reads = (lambda: read_release(loop.current, ServeSettings()), loop.record, loop.nights)
    accepted = set()
    for place in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        values = []
        for read in reads:
            with suppress(UserError):
                values.append(read())
        assert all(value in before for value in values)
        if len(values) == len(reads):
            accepted.add(whole[place // 8 : place // 8 + 1])
    assert accepted <= {b"\n"}  # another end of a line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"target": "nights/0001/run/policy"}, "found 'nights/0001/run/policy'; expected a policy of night 2"),
        ({"promoted": [1]}, "found 'nights/0002/run/policy'; expected a policy of night 1"),
        ({"promoted": []}, "expected none, since no night was promoted"),
        ({"target": ""}, "target: found ''; expected a policy of night 2"),
        (
            {"canary": {"night": 3, "target": "nights/0001/run/policy", "share": 0.1, "began": 0}},
            "canary.target: found 'nights/0001/run/policy'; expected a policy of night 3",
        ),
    ],
)
def test_a_target_of_another_night_is_refused_also_without_a_seal(
    loop: LoopFolder, tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    file = tmp_path / "current.json"
    written = json.loads(file.read_text())
    del written["seal"]
    file.write_text(json.dumps(written))
    assert loop.record().promoted == (1, 2)  # as earlier versions wrote it
    file.write_text(json.dumps(written | change))
    for read in (loop.record, lambda: read_release(loop.current, ServeSettings())):
        with pytest.raises(UserError, match=expected) as caught:
            read()
        assert str(caught.value).startswith(str(file))
        assert "\n" not in str(caught.value)


def test_nights_of_earlier_versions_are_read_and_sealed_when_written_again(loop: LoopFolder, tmp_path: Path) -> None:
    file, before = tmp_path / "nights.json", loop.nights()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(line.pop("seal") for line in lines)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert loop.nights() == before
    loop.write(before[0])
    assert all("seal" in json.loads(line) for line in file.read_text().splitlines())
    assert loop.nights() == before
