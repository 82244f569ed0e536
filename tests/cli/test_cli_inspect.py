"""Runs of `prefrec inspect`: its output, and error lines of one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from prefrec_ray.cli.main import run


def log(users: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = 30 * users
    time = 1_600_000_000 + rng.integers(0, 10**6, rows)
    return pd.DataFrame(
        {
            "user_id": np.arange(rows) % users,
            "item_id": rng.integers(0, 9, rows),
            "ts": time,
            "like": np.arange(rows) % 2,
        }
    )


#: A log with column names from which no role can be guessed.
WORDS = "wer,was,wann,q\n1,2,1600000000,0.5\n1,3,1600000001,1.5\n"


def test_columns_with_unknown_names_are_named(ray_session: None, tmp_path: Path) -> None:
    """A column `id` would be the user, and `Artikel` is also the key of the table of items."""
    frame = log().rename(columns={"user_id": "Nutzer", "item_id": "Artikel", "ts": "Wann"})
    frame.assign(id=np.arange(len(frame)) % 5).to_csv(tmp_path / "log.csv", index=False, sep=";")
    pd.DataFrame({"Artikel": np.arange(9), "genre": list("abcabcabc")}).to_csv(tmp_path / "items.csv", index=False)
    paths = [f"{tmp_path}/{name}.csv" for name in ("log", "items")]
    names = ["--user", "Nutzer", "--item", "Artikel", "--time", "Wann"]
    assert run(["inspect", *paths, *names, "--output", str(tmp_path / "my.yaml")]) == 0
    source = yaml.safe_load((tmp_path / "my.yaml").read_text())["prepare"]["source"]
    assert (source["user"], source["item"], source["time"]) == ("Nutzer", "Artikel", "Wann")
    assert source["items"] == {"path": paths[1], "id": "Artikel", "features": ["genre"]}
    assert source["feedback"] == {"like": {"column": "like", "kind": "binary"}}
    assert run(["validate", str(tmp_path / "my.yaml")]) == 0


def test_a_log_without_a_header_gets_names(ray_session: None, tmp_path: Path) -> None:
    frame = log().assign(event=np.where(np.arange(90) % 4, "view", "buy"))
    frame.to_csv(tmp_path / "log.csv", index=False, header=False, sep="|")
    names = "user,item,time,like,event"
    assert run(["inspect", f"{tmp_path}/log.csv", "--column-names", names, "--output", f"{tmp_path}/my.yaml"]) == 0
    source = yaml.safe_load((tmp_path / "my.yaml").read_text())["prepare"]["source"]
    assert (source["delimiter"], source["column_names"]) == ("|", names.split(","))
    like = {"column": "like", "kind": "binary"}
    assert source["feedback"] == {"buy": {"column": "event", "equals": "buy"}, "like": like}
    assert run(["inspect", "--config", f"{tmp_path}/my.yaml"]) == 0


def test_a_log_is_shown_as_plain_text_and_its_yaml_written(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log().to_csv(tmp_path / "log.csv", index=False)
    assert run(["inspect", str(tmp_path / "log.csv"), "--output", str(tmp_path / "my log.yaml")]) == 0
    assert f"prefrec prepare '{tmp_path}/my log.yaml' --output DATASET\n" in capsys.readouterr().out
    assert run(["inspect", str(tmp_path / "log.csv"), "--output", str(tmp_path / "my.yaml")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    assert "90 impressions of 3 users with 9 items, 2020-09-13" in out
    for words in ("feedback, binary", "time, s", "30 minutes"):
        assert words in out
    proposed = yaml.safe_load((tmp_path / "my.yaml").read_text())["prepare"]
    assert proposed["source"]["feedback"] == {"like": {"column": "like", "kind": "binary"}}
    assert run(["validate", str(tmp_path / "my.yaml")]) == 0

    capsys.readouterr()
    assert run(["inspect", "--config", str(tmp_path / "my.yaml")]) == 0
    assert "90 impressions of 3 users" in capsys.readouterr().out
    assert run(["inspect", str(tmp_path / "log.csv"), "--output", str(tmp_path / "my.yaml")]) == 2
    assert "my.yaml: already exists" in capsys.readouterr().err


def test_a_decimal_comma_and_few_users_have_a_line(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log().assign(rating="3,5").to_csv(tmp_path / "log.csv", index=False, sep=";")
    assert run(["inspect", str(tmp_path / "log.csv"), "--output", f"{tmp_path}/my.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "- column 'rating' is not used: numbers with a decimal comma are text; write 3.5" in lines
    few = (
        "3 of 3 users have more than 10 impressions; prefrec prepare needs about 20 such users, so that each split has"
    )
    assert f"- {few} some" in lines
    assert f"# {few} some." in (tmp_path / "my.yaml").read_text().splitlines()
    log(users=20).to_csv(tmp_path / "more.csv", index=False)
    assert run(["inspect", str(tmp_path / "more.csv")]) == 0
    assert "such users" not in capsys.readouterr().out


def test_the_yaml_is_written_if_nobody_reads_the_tables(tmp_path: Path) -> None:
    """As in `prefrec inspect log.csv --output my.yaml | head -1`."""
    log().to_csv(tmp_path / "log.csv", index=False)
    command = [sys.executable, "-m", "prefrec_ray.cli.main", "inspect", "log.csv", "--output", "my.yaml"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        process.wait()
    assert run(["validate", f"{tmp_path}/my.yaml"]) == 0


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({}, [], "expected PATH, or --config"),
        ({}, [""], "PATH: found an empty path; expected a file"),
        ({}, ["{}", " "], "PATH: found an empty path; expected a file"),
        ({}, ["{}/nowhere"], "nowhere: no such file or folder"),
        ({}, ["{}"], "no Parquet or CSV files"),
        ({}, ["{}/*.csv"], "no file matches"),
        ({"a.csv": ""}, ["{}/a.csv"], "a.csv: not readable as CSV"),
        ({"a.csv": "user_id,item_id,ts\n"}, ["{}/a.csv"], "a.csv: the log is empty"),
        ({"a.parquet": "none"}, ["{}"], "a.parquet: not readable as Parquet"),
        ({"a.csv": "x,item,ts,q\n1,2,1600000000,3\n1,3,1600000001,3\n"}, ["{}"], "no column looks like a user"),
        ({"a.csv": "wer,was,ts\n1,2,1600000000\n1,3,1600000001\n"}, ["{}"], "(prefrec inspect --user COLUMN names it)"),
        ({"a.csv": WORDS}, ["{}", "--user", "wr"], "column 'wr' is missing; found wer, was, wann, q"),
        ({"a.csv": WORDS}, ["{}", "--user", "q"], "column 'q': found double as user; expected integers or text"),
        ({"a.csv": WORDS}, ["{}", "--time", "was"], "column 'was': found int64 as time; expected numbers of s"),
        ({"a.csv": WORDS}, ["{}", "--user", "wer", "--item", "wer"], "found one column twice; expected different"),
        ({"my.yaml": "prepare: {}"}, ["--config", "{}/my.yaml", "--time", "x"], "--time: names columns of a raw log"),
        ({"a.csv": "user,item\n1,2\n1,3\n"}, ["{}"], "no column looks like a time"),
        ({"a.csv": "17,99,1600000000\n17,98,1600000001\n"}, ["{}"], "no header: the first line is 17, 99"),
        ({"a.csv": "17,99\n17,98\n"}, ["{}", "--column-names", "user"], "found 2 columns and 1 names; expected a name"),
        ({"metadata.json": '{"schema_version": 99}'}, ["{}"], "schema version 99"),
        ({"my.yaml": "prepare: {}"}, ["{}", "--config", "{}/my.yaml"], "one of the two"),
        ({"my.yaml": "prepare: {}"}, ["--config", "{}/my.yaml"], "key 'source' is missing"),
        ({"my.yaml": "prepare: {}"}, ["--config", "{}/my.yaml", "--output", "x.yaml"], "--output: a YAML is proposed"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(
    tmp_path: Path, files: dict, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert run(["inspect", *(argument.format(tmp_path) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("prefrec: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
