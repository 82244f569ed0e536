"""Whatever ids and paths are made of, they are printed as they are."""

import shlex

import pytest
from made_records import made_record
from rich.table import Table

from prefrec_ray.cli.console import console, made, pasteable
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
