"""Output of commands: ids and paths unchanged, and progress on a terminal and in a pipe, with a controlled clock."""

import io
import re
import shlex
import time

import pytest
from made_records import made_record
from patience import soon
from rich.console import Console
from rich.table import Table

from prefrec_ray.cli.console import StageProgress, console, loading, made, pasteable, progress
from prefrec_ray.cli.labels import _table
from prefrec_ray.cli.verdicts import summary
from prefrec_ray.evaluation.results.records import Evaluation

STRANGE = "a[/x]b[bold]:smile:"


def test_where_something_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    made("data set", STRANGE, f"prefrec train --dataset {STRANGE}")
    assert capsys.readouterr().out == f"✓ data set: {STRANGE}\n  next: prefrec train --dataset {STRANGE}\n"


def test_a_command_can_be_pasted() -> None:
    words = ["evaluate", "my runs/it's/policy", "--dataset", "s3://a/$b"]
    line = pasteable(*words, config="one; two.yaml")
    assert shlex.split(line) == ["prefrec", *words, "--config", "one; two.yaml"]
    assert pasteable("report", "runs") == "prefrec report runs"


def test_names_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
    people = _table({"annotators": [{"annotator": STRANGE, "votes": 1, "skips": 0, "disagreement": None}]})
    scores = summary(Evaluation(records=[made_record(STRANGE, 1.0)]), "depth")
    for table in (people, scores):
        assert isinstance(table, Table)
        console().print(table)
        assert STRANGE in capsys.readouterr().out


def test_in_a_file_or_the_log_of_a_job_no_table_is_folded_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("policy", "verdict")
    table.add_row("p" * 60, "v" * 60)
    console().print(table)
    assert f"{'p' * 60} │ {'v' * 60}" in capsys.readouterr().out


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def stages() -> tuple[Clock, list[str], StageProgress]:
    """Return a clock, the lines of progress by this clock, and the report that writes them."""
    clock, lines = Clock(), []
    return clock, lines, StageProgress(lines.append, clock)


def test_without_a_terminal_a_stage_is_one_line_when_it_ends() -> None:
    clock, lines, report = stages()
    report("group by user: files", 0, 5)
    clock.now += 0.6
    report("group by user: files", 5, 5)
    report("group by user: files", 5, 5)
    report("fit the behavior clone", 0, 1)
    clock.now += 25
    report.beat()
    clock.now += 100
    report("fit the behavior clone", 1, 1, "90 rows/s")
    report("train: iterations", 1, 9)
    assert lines == [
        "group by user  5/5 files  0.6 s",
        "fit the behavior clone  25 s so far",
        "fit the behavior clone  2 min 05 s  90 rows/s",
    ]


def test_a_heartbeat_has_work_unit_rate_and_time_left() -> None:
    clock, lines, report = stages()
    report("fit models of users: models", 0, 4)
    for _ in range(61):  # half a minute of looks at the clock
        report.beat()
        if clock.now == 112:
            report("fit models of users: models", 1, 4)
        clock.now += 0.5
    report("fit models of users: models", 4, 4)
    clock.now += 10
    report.beat()  # between stages
    assert lines == [
        "fit models of users  0/4 models  9.5 s",
        "fit models of users  1/4 models  19 s  5/min  29 s left",
        # The second model is 4 s late. If it came now, the rate would be 2 in 28 s, and two more would take 28 s.
        "fit models of users  1/4 models  28 s  4.2/min  28 s left",
        "fit models of users  4/4 models  30 s",
        "working  10 s",
    ]


def test_a_last_unit_that_is_late_has_no_time_left() -> None:
    clock, lines, report = stages()
    report("score logged sessions: files", 0, 5)
    clock.now += 8
    report("score logged sessions: files", 4, 5)
    clock.now += 12
    report.beat()
    assert lines == ["score logged sessions  4/5 files  20 s  15/min"]


def test_a_stage_without_a_total_shows_its_rate() -> None:
    clock, lines, report = stages()
    report("read the log: rows", 0, 0)
    clock.now += 10
    report("read the log: rows", 40_000, 0)
    report.beat()
    clock.now += 1
    report("read the log: rows", 41_000, 41_000)
    assert lines == ["read the log  40,000 rows  10 s  4,000/s", "read the log  41,000/41,000 rows  11 s"]


def test_the_rate_of_a_run_that_resumes_leaves_out_what_was_done_before() -> None:
    clock, lines, report = stages()
    report("train: iterations", 0, 0, "starting")
    clock.now += 5
    report("train: iterations", 30, 40)
    clock.now += 10
    report("train: iterations", 32, 40, "900 transitions/s")
    report.beat()
    assert lines == ["train  32/40 iterations  15 s  12/min  40 s left  900 transitions/s"]


def test_a_total_that_shrinks_keeps_the_rate() -> None:
    clock, lines, report = stages()
    report("choose: rules", 0, 30)
    clock.now += 10
    report("choose: rules", 10, 20)
    report.beat()
    assert lines == ["choose  10/20 rules  10 s  1.0/s  10 s left"]


def test_a_stage_that_is_reported_at_its_end_took_the_time_since_the_stage_before_and_may_begin_again() -> None:
    """A million rows were read in 0.0 s."""
    clock, lines, report = stages()
    for seconds in (5, 3):
        clock.now += seconds
        report("read: rows", 90, 90)
        report("read: rows", 0, 90)
    assert lines == ["read  90/90 rows  5.0 s", "read  90/90 rows  3.0 s"]


def test_a_pipe_gets_plain_lines_and_a_terminal_a_bar_for_each_stage() -> None:
    for is_terminal in (False, True):
        out = io.StringIO()
        with progress(Console(file=out, force_terminal=is_terminal, width=120)) as report:
            report("simulate: users", 50, 200)
            report("simulate: users", 200, 200)
            report("train: iterations", 1, 9, "90 transitions/s")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
        if not is_terminal:
            assert re.fullmatch(r"simulate  200/200 users  \d\.\d s\n", text)
            continue
        first, second = [line.split() for line in text.splitlines() if line.strip()][-2:]
        assert (first[0], second[0]) == ("simulate", "train")
        assert "200/200" in first
        assert second[-2:] == ["90", "transitions/s"]


def test_slow_imports_are_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefrec_ray.cli.console._TICK", 0.001)
    monkeypatch.setattr("prefrec_ray.cli.console._SILENCE", 0.0)
    out = io.StringIO()
    with loading(Console(file=out)):
        until = time.monotonic() + soon(10)
        while "load packages" not in out.getvalue() and time.monotonic() < until:
            time.sleep(0.001)
    assert re.search(r"load packages  \d\.\d s so far\n", out.getvalue())


def test_a_submitted_job_names_no_next_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its paths are those of a node, on which nobody types."""
    made("logs", "s3://b/logs", "prefrec prepare my.yaml")
    monkeypatch.setenv("PREFREC_SUBMITTED", "1")
    made("logs", "s3://b/logs", "prefrec prepare my.yaml")
    assert capsys.readouterr().out.splitlines() == [
        "✓ logs: s3://b/logs",
        "  next: prefrec prepare my.yaml",
        "✓ logs: s3://b/logs",
    ]
