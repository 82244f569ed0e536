"""The index of a server's log in memory does not grow without limit."""

import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from platform_desk import Desk, make_policy

from prefrec_ray.logs.events import log as log_module
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.requests.bodies import Feedback, Recommend

NOW, MINUTE = 1_700_000_000_000, 60_000


def row(number: int) -> Event:
    """A row of a log."""
    return Event(Kind.RECOMMENDED, number, event_id=f"a-{number:x}", user_number=1, items=[number], propensities=[1.0])


@pytest.mark.parametrize(("needed", "most"), [(False, 60_000), (True, 12_000)])
def test_a_commit_takes_few_bytes_and_those_that_nobody_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: bool, most: int
) -> None:
    """24 bytes for each of 2,000 commits, whose last tenth is needed."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 1 << 17)
    log = EventLog(str(tmp_path), pa.int64())
    for _ in range(50):
        log.commit([row(log.next)])
    tracemalloc.start()
    for _ in range(2_000):
        log.needed = max(0, log.next - 200) if needed else 0
        log.commit([row(log.next)])
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    files = len(list((tmp_path / "events").iterdir()))
    assert files > 5
    assert taken < most + 2_000 * files
    for number in (0, 1, 7, 1_000, log.next - 1):  # found all the same, if more slowly
        assert log.read(number)["items"] == [number]


def test_a_server_needs_the_rows_on_which_feedback_may_come(tmp_path: Path) -> None:
    make_policy().save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state", feedback_hours=1)
    for minute in range(90):
        desk.one(Recommend(user=minute, k=1), NOW + minute * MINUTE)
    needed = desk.engine.log.needed
    assert 25 <= needed <= 31
    body = Feedback(event_id=f"{desk.opened.log_id}-{needed:x}", feedback={"like": 1.0})
    assert desk.one(body, NOW + 89 * MINUTE)["status"] == "counted"
