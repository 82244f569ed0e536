"""Whatever ids and paths are made of, they are printed as they are."""

import pytest
from rich.table import Table

from prefrec_ray.cli.console import console, made
from prefrec_ray.cli.import_labels import _table
from prefrec_ray.cli.summary import summary

STRANGE = "a[/x]b[bold]:smile:"


def test_where_something_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    made("data set", STRANGE, f"prefrec train --dataset {STRANGE}")
    assert capsys.readouterr().out == f"✓ data set: {STRANGE}\n  next: prefrec train --dataset {STRANGE}\n"


def test_names_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
    people = _table({"annotators": [{"annotator": STRANGE, "votes": 1, "skips": 0, "disagreement": None}]})
    record = {"task": "depth", "estimator": "ncis", "subject": STRANGE, "role": "policy", "behaviour": 1.0}
    scores = summary([record | {"value": 1.0, "ci_low": 0.5, "ci_high": 1.5}], "depth")
    for table in (people, scores):
        assert isinstance(table, Table)
        console().print(table)
        assert STRANGE in capsys.readouterr().out
