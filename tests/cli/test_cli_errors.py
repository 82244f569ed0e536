"""Each mistake of a user, and each kind of bad input: one line on stderr, exit status 2, nothing left behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from prefrec_ray.cli.main import run
from prefrec_ray.dataset import PreparedDataset, tensor, tensor_array, write_table
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp

PREPARE = "prepare:\n  source:\n    kind: simulator\n    path: nowhere\n"
MISUSE = {
    "no file": (["simulate", "missing.yaml", "--output", "new"], "missing.yaml: no such file"),
    "no section": (["prepare", "simulate.yaml", "--output", "new"], "simulate.yaml: section 'prepare' is missing"),
    "unknown key": (["simulate", "typo.yaml", "--output", "new"], "key 'usres': unknown key; did you mean 'users'?"),
    "output exists": (["simulate", "simulate.yaml", "--output", "there"], "there: already exists"),
    "no logs": (["prepare", "prepare.yaml", "--output", "new"], "nowhere"),
    "no such way": (["prepare", "prepare.yaml", "--output", "new", "--on-error", "skip"], "--on-error: found 'skip'"),
    "no data set named": (["train", "train.yaml"], "train.yaml: train: key 'dataset' is missing"),
    "no data set": (["train", "train.yaml", "--dataset", "nowhere", "--output", "new"], "nowhere"),
    "bad override": (["train", "train.yaml", "gama=1", "--dataset", "nowhere"], "did you mean 'gamma'?"),
    "run exists": (["train", "train.yaml", "--dataset", "nowhere", "--output", "there"], "there: already exists"),
    "no checkpoint": (["export", "there", "--output", "new"], "there: not a training checkpoint"),
    "no policy": (["evaluate", "there", "--dataset", "nowhere"], "nowhere"),
    "bad split": (
        ["evaluate", "there", "--dataset", "x", "--split", "train"],
        "--split: key 'split': expected 'validation' or 'test', found 'train'",
    ),
    "bad estimator": (
        ["evaluate", "there", "--dataset", "x", "--estimators", "ncis,fqr"],
        "--estimators: key 'estimators.1': did you mean 'fqe'? (or module:Class), found 'fqr'",
    ),
    "no run": (["report", "there"], "there: contains no run"),
    "quickstart exists": (["quickstart", "--output", "there"], "there: already exists"),
    "not YAML": (["validate", "broken.yaml"], "broken.yaml: line 3: not YAML"),
    "no mapping": (["validate", "list.yaml"], "list.yaml: expected a mapping of sections, found list"),
    "unknown section": (
        ["validate", "section.yaml"],
        "section.yaml: unknown section 'prepair'; did you mean 'prepare'?",
    ),
}


def failed(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error line of a failing command, after a check that it left nothing behind."""
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("prefrec: error: ")
    assert err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return err


#: Commands that start Ray before they see the mistake.
AFTER_RAY = ("no logs", "no data set")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.ray] * (case in AFTER_RAY)) for case in MISUSE])
def test_misuse(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("simulate.yaml").write_text("simulate:\n  users: 5\n")
    Path("typo.yaml").write_text("simulate:\n  usres: 5\n")
    Path("prepare.yaml").write_text(PREPARE)
    Path("train.yaml").write_text("train:\n  task: depth\n")
    Path("broken.yaml").write_text("train:\n  task: [depth\n")
    Path("list.yaml").write_text("- prepare\n")
    Path("section.yaml").write_text("prepair:\n")
    Path("there").mkdir()
    arguments, message = MISUSE[case]
    assert message in failed(arguments, tmp_path, capsys)


# Logs that break the contract. Each is a small good log with one change, of its rows or of the section's `source`.

SOURCE = {
    **{"kind": "files", "path": "log.csv", "user": "user", "item": "item", "time": "time", "time_unit": "s"},
    "feedback": {"like": {"column": "like", "kind": "binary"}, "plays": {"column": "plays", "kind": "count"}},
}
SETTINGS = {
    **{"action_dim": 2, "train_fraction": 0.5, "validation_fraction": 0.25, "partitions": 1},
    "preferences": {"pairs": 20, "validation_pairs": 10, "length": 3, "min_requests": 7, "tasks": ["depth"]},
}


def good_log() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {"user": np.repeat(np.arange(20), 12), "item": rng.integers(0, 30, 240)}
    columns |= {"time": rng.choice([60, 4000, 9000], 240).cumsum(), "like": rng.integers(0, 2, 240), "plays": 1}
    return pd.DataFrame(columns, dtype=object)


def cell(column: str, *values: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Row 8, and the rows after it, hold `values`."""

    def change(log: pd.DataFrame) -> pd.DataFrame:
        log.loc[7 : 6 + len(values), column] = list(values)
        return log

    return change


def rows(text: str) -> Callable[[pd.DataFrame], None]:
    """The whole file."""

    def write(log: pd.DataFrame) -> None:
        Path("log.csv").write_text(text)

    return write


def parquet(**columns: object) -> Callable[[pd.DataFrame], None]:
    def write(log: pd.DataFrame) -> None:
        log.astype("int64").assign(**columns).to_parquet("log.parquet")

    return write


def items(**columns: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def write(log: pd.DataFrame) -> pd.DataFrame:
        pd.DataFrame({"item_id": range(30), "x": 0.5, "y": -0.5}).assign(**columns).to_csv("items.csv", index=False)
        return log

    return write


def nothing(log: pd.DataFrame) -> pd.DataFrame:
    return log


ITEMS = {"items": {"path": "items.csv", "embedding": ["x", "y"]}}
OF_PARQUET = {"path": "log.parquet"}
LOGS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame | None], dict[str, Any], str]] = {
    "no user": (cell("user", None), {}, "/log.csv: column 'user', row 8: no id; expected one in every row"),
    "no integer": (
        lambda log: pd.concat([log] * 400).reset_index(drop=True).pipe(lambda long: long[:90_000]).pipe(late_word),
        {"duplicates": "keep"},
        "/log.csv: column 'user', row 90000: found 'anna'; expected an integer id",
    ),
    "no item": (cell("item", None, None), {}, "row 8: no id; expected one in every row; 2 rows like it (--on-error"),
    "no time": (cell("time", None), {}, "column 'time', row 8: no time; expected one in every row"),
    "time is a word": (cell("time", "noon"), {}, "column 'time', row 8: found 'noon'; expected a number of s"),
    "time before 1970": (cell("time", -5), {}, "column 'time', row 8: found -5; expected s since 1970"),
    "wrong unit": (cell("time", 1_700_000_000_000), {}, "before 2200 (or another time_unit)"),
    "time is no number": (
        cell("time", *["2024-05-06"] * 233),
        {},
        "found '2024-05-06'; expected a number of s; 233 rows",
    ),
    "no such time": (
        lambda log: log.assign(time="2024-02-30"),
        {"time_unit": None},
        "row 1: found '2024-02-30'; expected a time in ISO 8601 (for numbers give time_unit); 240 rows like it",
    ),
    "other format": (
        lambda log: log.assign(time="01/02/2024"),
        {"time_unit": None, "time_format": "%Y/%m/%d"},
        "found '01/02/2024'; expected a time like %Y/%m/%d",
    ),
    "no time unit": (
        parquet(),
        {**OF_PARQUET, "time_unit": None},
        "times are numbers; expected time_unit: s, ms, us or",
    ),
    "unknown zone": (nothing, {"time_unit": None, "time_zone": "Paris"}, "key 'source.time_zone'"),
    "zone of numbers": (nothing, {"time_zone": "Europe/Paris"}, "time_zone is for times that are not numbers"),
    "feedback is a word": (cell("plays", "much"), {}, "column 'plays', row 8: found 'much'; expected a number"),
    "no feedback": (cell("like", None), {}, "column 'like', row 8: found NaN or nothing; expected a finite number"),
    "infinite feedback": (cell("plays", "inf"), {}, "column 'plays', row 8: found infinity; expected a finite number"),
    "not binary": (cell("like", 2, 3), {}, "row 8: found 2.0; expected 0 or 1; 2 rows like it"),
    "negative count": (cell("plays", -1), {}, "found -1.0; expected a whole number of at least 0"),
    "unknown meaning": (nothing, {"feedback": {"like": {"column": "like", "kind": "bool"}}}, "feedback.like.kind"),
    "several kinds": (
        lambda log: cell("item", None)(cell("like", 2, 3)(log)),
        {},
        "row 8: no id; expected one in every row; 2 bad rows in all (by column: 'item' 1, 'like' 1; --on-error drop",
    ),
    "twice": (
        lambda log: pd.concat([log[:100], log[4:5], log[100:]]),
        {},
        "/log.csv: row 101: the same as an earlier row; expected each interaction once (source.duplicates: keep",
    ),
    "too few values": (
        rows("user,item,time,like,plays\n1,2,3,4\n"),
        {},
        "/log.csv: row 1: found 4 values (1,2,3,4); expected 5",
    ),
    "header alone": (rows("user,item,time,like,plays\n"), {}, "/log.csv: the log is empty; expected interactions"),
    "no bytes": (rows(""), {}, "/log.csv: not readable as CSV (Empty CSV file"),
    "column missing": (
        lambda log: log.drop(columns="item"),
        {},
        "column 'item' is missing; found user, time, like, plays",
    ),
    "column twice": (rows("user,user,item,time,like,plays\n1,1,2,3,0,1\n"), {}, "column 'user' occurs 2 times"),
    "other delimiter": (nothing, {"delimiter": ";"}, "found user,item,time,like,plays (delimiter: ','?)"),
    "no Parquet": (
        lambda log: Path("log.parquet").write_text("PAR"),
        OF_PARQUET,
        "/log.parquet: not readable as Parquet",
    ),
    "ids are fractions": (parquet(user=0.5), OF_PARQUET, "column 'user' is double; expected ids as integers or text"),
    "feedback is text": (parquet(like="yes"), OF_PARQUET, "string; expected numbers"),
    "no file": (nothing, {"path": "logs.csv"}, "logs.csv: no such file or folder"),
    "no match": (nothing, {"path": "2025-*.csv"}, "2025-*.csv: no file matches"),
    "nothing to read": (lambda log: Path("empty").mkdir(), {"path": "empty"}, "empty: no Parquet or CSV files"),
    "item twice": (
        items(item_id=[0, *range(29)]),
        ITEMS,
        "/items.csv: column 'item_id', row 2: found 0 again; expected each",
    ),
    "far embedding": (
        items(y=2),
        ITEMS,
        "column 'y', row 1: found 2.0; expected numbers within [-1, 1]; 30 rows like it",
    ),
    "unknown item": (items(item_id=range(1, 31)), ITEMS, "found 0; expected an item of the item table (30 items)"),
}


def late_word(log: pd.DataFrame) -> pd.DataFrame:
    """A word after the first MiB, from which the column's type is inferred."""
    log.loc[len(log) - 1, "user"] = "anna"
    return log


@pytest.mark.parametrize("case", LOGS)
def test_logs(
    case: str, ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    change, source, message = LOGS[case]
    log = change(good_log())
    if isinstance(log, pd.DataFrame):
        log.to_csv("log.csv", index=False)
    Path("prepare.yaml").write_text(yaml.safe_dump({"prepare": {"source": {**SOURCE, **source}, **SETTINGS}}))
    assert message in failed(["prepare", "prepare.yaml", "--output", "new"], tmp_path, capsys)


# Data sets, policies and runs that are damaged.

TRAIN = {
    "task": "depth",
    "validation": None,
    "config": {"hidden_sizes": [4], "train_batch_size_per_learner": 8, "num_epochs": 0.1},
}


@pytest.fixture(scope="module")
def whole(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a policy for it, a run and its evaluation: nothing in it is damaged."""
    folder = tmp_path_factory.mktemp("whole")
    good_log().to_csv(folder / "log.csv", index=False)
    source = {**SOURCE, "path": str(folder / "log.csv")}
    (folder / "config.yaml").write_text(yaml.safe_dump({"prepare": {"source": source, **SETTINGS}, "train": TRAIN}))
    assert run(["prepare", str(folder / "config.yaml"), "--output", str(folder / "dataset")]) == 0
    data = PreparedDataset.open(str(folder / "dataset"))
    layers = [(np.zeros((2, data.state.width), np.float32), np.zeros(2, np.float32))]
    actor = DeterministicActor(Mlp.from_layers(layers), np.float32([-1, -1]), np.float32([1, 1]))
    about = {"method": "PrefRec", "recipe": "robust", "task": "depth", "seed": 0}
    Policy(actor, data.state, data.normaliser, data.items(), provenance=about).save(str(folder / "run" / "policy"))
    (folder / "run" / "config.json").write_text(json.dumps({**about, "dataset": "dataset", "config": {}}))
    (folder / "run" / "progress.csv").write_text("training_iteration,phase,progress\n1,train,1.0\n")
    return folder


def remove(name: str) -> Callable[[], None]:
    return lambda: Path(name).unlink()


def write(name: str, text: str) -> Callable[[], None]:
    return lambda: [Path(name).write_text(text), None][1]


def metadata(**changes: object) -> Callable[[], None]:
    """`None` removes a key."""

    def change() -> None:
        file = Path("dataset/metadata.json")
        value = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({key: one for key, one in value.items() if one is not None}))

    return change


def cut(name: str) -> Callable[[], None]:
    return lambda: [Path(name).write_bytes(Path(name).read_bytes()[:-20]), None][1]


def not_a_number(name: str, column: str) -> Callable[[], None]:
    def change() -> None:
        table = pq.read_table(name)
        values = tensor(table[column]).copy()
        values[0, 1] = np.nan
        write_table(table.set_column(table.column_names.index(column), column, tensor_array(values)), name)

    return change


def without_column(name: str, column: str) -> Callable[[], None]:
    return lambda: write_table(pq.read_table(name).drop_columns(column), name)


COMMANDS = {
    "train": ["train", "config.yaml", "--dataset", "dataset", "--output", "new"],
    "evaluate": ["evaluate", "run/policy", "--dataset", "dataset"],
    "below a file": ["evaluate", "run/policy", "--dataset", "dataset", "--output", "config.yaml/evaluation.json"],
    "report": ["report", "run"],
}
SHARD, REQUESTS, SESSIONS = (
    "dataset/transitions/part-00000.parquet",
    "dataset/requests/test/part-00000.parquet",
    "dataset/sessions/part-00000.parquet",
)
DAMAGE: dict[str, tuple[str, Callable[[], None], str]] = {
    "no metadata": ("train", remove("dataset/metadata.json"), "not a prepared data set (no metadata.json)"),
    "metadata cut": ("train", cut("dataset/metadata.json"), "metadata.json: line "),
    "older version": ("evaluate", metadata(schema_version=0), "metadata.json: found schema version 0; expected 1"),
    "key missing": ("evaluate", metadata(counts=None), "metadata.json: key 'counts' is missing"),
    "no state": ("train", metadata(state={}), "metadata.json: key 'state.feedback' is missing"),
    "other width": ("evaluate", metadata(state_dim=3), "metadata.json: found state_dim 3; expected the width of state"),
    "no shard": ("train", remove(SHARD), "dataset/transitions: "),
    "shard cut": ("train", cut(SHARD), f"{SHARD}: damaged: not readable as Parquet"),
    "shard of NaN": (
        "train",
        not_a_number(SHARD, "next_obs"),
        f"{SHARD}: column 'next_obs', row 1: found a number that",
    ),
    "no sessions": ("evaluate", remove(SESSIONS), "dataset/sessions: found 0 rows in 0 files; expected "),
    "no requests": ("evaluate", remove(REQUESTS), "dataset/requests/test: found 0 rows in 0 files; expected "),
    "requests of NaN": (
        "evaluate",
        not_a_number(REQUESTS, "state"),
        f"{REQUESTS}: column 'state', row 1: found a number",
    ),
    "no actions": ("evaluate", without_column(REQUESTS, "action"), f"{REQUESTS}: damaged, or with other columns"),
    "no items": ("evaluate", remove("dataset/items.parquet"), "items.parquet: no such file"),
    "no answers": ("train", remove("dataset/answers.npz"), "answers.npz: no such file"),
    "no pairs": ("train", remove("dataset/preferences/depth/train.parquet"), "depth/train.parquet: no such file"),
    "pairs cut": ("train", cut("dataset/preferences/depth/train.parquet"), "depth/train.parquet: damaged"),
    "no policy": ("evaluate", remove("run/policy/policy.json"), "policy.json: no such file"),
    "policy cut": ("evaluate", cut("run/policy/policy.json"), "policy.json: line "),
    "no folder": ("below a file", lambda: None, "config.yaml: cannot be written ("),
    "actor cut": ("evaluate", cut("run/policy/actor.safetensors"), "actor.safetensors: not a file of plain arrays"),
    "no curves": ("report", write("run/progress.csv", "training_iteration,phase\n"), "progress.csv: no iteration yet"),
    "word in curves": (
        "report",
        write("run/progress.csv", "a,phase\nmuch,train\n"),
        "progress.csv: expected the curves",
    ),
    "no phase": ("report", write("run/progress.csv", "training_iteration\n1\n"), "column 'phase' is missing"),
    "config is a list": ("report", write("run/config.json", "[1]"), "config.json: found list; expected the settings"),
    "evaluation cut": ("report", write("run/evaluation.json", '{"records": ['), "evaluation.json: line 1: not JSON"),
    "no records": (
        "report",
        write("run/evaluation.json", "{}"),
        "evaluation.json: key 'records' is missing; expected a file written by `prefrec evaluate`",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage(
    short_fits: None,
    case: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An evaluation of damaged data fails while its models of users are fitted."""
    shutil.copytree(whole, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    command, damage, message = DAMAGE[case]
    damage()
    assert message in failed(COMMANDS[command], tmp_path, capsys)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text("{}")
    assert run(["report", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prefrec: error: found a file; expected a folder")
    assert str(file) in line
