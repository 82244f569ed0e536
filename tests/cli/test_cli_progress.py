import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from prefrec_ray.cli.progress import progress


def shown(terminal: bool) -> str:
    out = io.StringIO()
    with progress(Console(file=out, force_terminal=terminal, width=100)) as report:
        report("simulate", 50, 200)
        report("simulate", 200, 200)
        report("prepare", 1, 3)
        report("prepare", 3, 3, "90 rows/s")
        report("prepare", 3, 3)
        report("train", 1, 9)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_without_a_terminal_a_stage_is_one_line_when_it_ends() -> None:
    lines = shown(terminal=False).splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"simulate: 200 in \d+\.\d s", lines[0])
    assert re.fullmatch(r"prepare: 3 in \d+\.\d s \(90 rows/s\)", lines[1])


def test_a_stage_that_is_heard_of_at_its_end_alone_took_the_time_since_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A million rows were read in 0.0 s."""
    clock = iter([0.0, 5.0, 7.0, 8.0])
    monkeypatch.setattr("prefrec_ray.cli.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    out = io.StringIO()
    with progress(Console(file=out)) as report:
        report("read", 90, 90)
        report("users", 1, 2)
        report("users", 2, 2)
    assert out.getvalue() == "read: 90 in 5.0 s\nusers: 2 in 3.0 s\n"


def test_on_a_terminal_a_stage_is_a_bar() -> None:
    last = [line.rstrip() for line in shown(terminal=True).splitlines() if line.strip()][-3:]
    assert [line.split()[0] for line in last] == ["simulate", "prepare", "train"]
    assert "200/200" in last[0]
    assert "1/9" in last[2]
