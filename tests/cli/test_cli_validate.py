import subprocess
import sys
from pathlib import Path

import pytest

from prefrec_ray import memory
from prefrec_ray.cli.main import run

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "tune_configs").glob("*.yaml"))


def test_it_names_the_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("simulate:\nevaluate:\n  split: validation\n")
    assert run(["validate", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: well-formed (sections: simulate, evaluate)\n"


def test_it_checks_every_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("simulate:\nevaluate:\n  ncis:\n    mode: densty\n")
    assert run(["validate", str(file)]) == 2
    assert "evaluate: key 'ncis.mode': expected 'density' or 'ratio'" in capsys.readouterr().err


def test_it_checks_the_name_of_a_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("simulate: {world: short_vide}\n")
    assert run(["validate", str(file)]) == 2
    assert "simulate: key 'world.law': did you mean 'short_video'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        (
            "embedding: genres",
            "is string; expected lists of numbers, or name several columns of numbers; categories belong",
        ),
        ("features: genre", "column 'genre' is missing; found movieId, genres"),
        ("features: genres", None),
    ],
)
def test_it_checks_the_columns_of_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], items: str, problem: str | None
) -> None:
    """`prepare` does so too before it starts Ray."""
    (tmp_path / "movies.csv").write_text("movieId,genres\n1,Action|Comedy\n")
    source = "kind: files, path: ratings.csv, user: u, item: i, time: t"
    movies = f"items: {{path: {tmp_path}/movies.csv, id: movieId, {items}}}"
    (tmp_path / "my.yaml").write_text(f"prepare: {{source: {{{source}, {movies}}}}}")
    commands = [["validate", f"{tmp_path}/my.yaml"], ["prepare", f"{tmp_path}/my.yaml", "--output", f"{tmp_path}/new"]]
    for command in commands[: 2 if problem else 1]:
        assert run(command) == (2 if problem else 0)
        assert (problem or "") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "path", "problem"),
    [
        ("user,item,time,like", "log.csv", None),
        ("user,item,time,likes", "log.csv", "log.csv: column 'like' is missing; found user, item, time, likes"),
        ("user,item,time,likes", "*.csv", "log.csv: column 'like' is missing; found user, item, time, likes"),
        ("user,item,time,like,like", "log.csv", "log.csv: column 'like' occurs 2 times; expected once"),
        ("user,item,time,likes", "elsewhere.csv", None),
    ],
)
def test_it_checks_the_columns_of_a_log_on_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], header: str, path: str, problem: str | None
) -> None:
    (tmp_path / "log.csv").write_text(f"{header}\n1,2,3,4" + ",4" * (header.count(",") - 3) + "\n")
    columns = "user: user, item: item, time: time, time_unit: s, feedback: [like]"
    (tmp_path / "my.yaml").write_text(f"prepare: {{source: {{kind: files, path: '{tmp_path}/{path}', {columns}}}}}")
    assert run(["validate", str(tmp_path / "my.yaml")]) == (2 if problem else 0)
    assert (problem or "") in capsys.readouterr().err


GOOD = "7,1,1600000000,1\n7,2,1600000060,0\n"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (GOOD, None),
        ("7,3,1600000000000,1\n", "'time', row 3: found 1600000000000; expected s since 1970, before 2200 (or another"),
        ("7,3,-5,1\n", "column 'time', row 3: found -5; expected s since 1970"),
        ("7,3,1600000100,NaN\n", "row 3: found NaN or nothing; expected a finite number, or the key `missing:` of"),
        ('7,3,1600000100,"3,5"\n', "column 'like', row 3: found '3,5' with a decimal comma; expected a number"),
        (
            "7,1,1600000000,1\n",
            "log.csv: row 3: the same as an earlier row; expected each interaction once (source",
        ),
        ("7,3,4\n", "row 3: found 3 values (7,3,4); expected 4 in every line"),
    ],
)
def test_it_checks_the_first_rows_of_a_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, problem: str | None
) -> None:
    """Another file of the log is in order, and the mistake is in the second one."""
    log = tmp_path / "log"
    log.mkdir()
    header, good = "user,item,time,like\n", GOOD.replace("7,", "8,", 1).replace("\n7,", "\n9,")
    for name, text in {"a.csv": header + good, "log.csv": header + GOOD + (rows if problem else "")}.items():
        (log / name).write_text(text)
    columns = "user: user, item: item, time: time, time_unit: s, feedback: [like]"
    (tmp_path / "my.yaml").write_text(f"prepare: {{source: {{kind: files, path: '{log}', {columns}}}}}")
    assert run(["validate", str(tmp_path / "my.yaml")]) == (2 if problem else 0)
    out, err = capsys.readouterr()
    assert err.count("\n") == (1 if problem else 0)
    assert (problem or "") in err
    assert ("log: found no fault in 4 rows" in out) == (problem is None)


def test_it_checks_the_keys_of_the_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("train:\n  config:\n    expectle: 0.7\n")
    assert run(["validate", str(file)]) == 2
    assert "train: key 'config.expectle': unknown key; did you mean 'expectile'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "train: {config: {hidden_sizes: [1000000000, 1000000000]}}",
            "train: key 'config.hidden_sizes': layers of 1000000000 x 1000000000 take 16.0 EB; expected at most 8.0 GB,"
            " the memory of this machine",
        ),
        ("train: {config: {train_batch_size_per_learner: 1000000000}}", "in layers of 256 x 256 x 256 take 3.1 TB"),
        ("train: {config: {preference_batch_size: 1000000000}}", "mini-batches of preference_batch_size in layers of"),
        (
            "train: {config: {reward_members: 1000000}}",
            "'config.reward_members': 1000000 networks of 256 x 256 x 256 t",
        ),
        ("train: {method: BCQ, config: {candidates: 1000000}}", "1,000,000 candidates for each transition take 3.1 TB"),
        ("train: {config: {num_epochs: 1.0e+300}}", "'config.num_epochs': expected less than or equal to 1000000000"),
        (
            "train: {config: {serving: {variety: 1.0e+300}}}",
            "'config.serving.variety': expected less than or equal to 1",
        ),
        ("prepare: {source: {kind: simulator, path: x}, preferences: {pairs: 100000000}}", "pairs take 25.6 GB"),
        ("label: {pairs: 100000000}", "label: key 'pairs': 100,000,000 pairs take 25.6 GB"),
        ("simulate: {users: 1000000000}", "simulate: key 'users': 1,000,000,000 users take 32.0 GB"),
        ("simulate: {requests: 10000000}", "simulate: key 'requests': 10,000,000 requests take 81.9 GB"),
        ("tune: {num_samples: 10000000}", "tune: key 'num_samples': expected less than or equal to 100000"),
    ],
)
def test_it_checks_that_numbers_can_be_computed_with(
    text: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "installed", lambda: 8 * 10**9)
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert run(["validate", str(file)]) == 2
    assert line in capsys.readouterr().err


def test_there_are_shipped_configs() -> None:
    assert SHIPPED


@pytest.mark.parametrize("file", [*SHIPPED, ROOT / "prefrec_ray/cli/quickstart.yaml"], ids=lambda file: file.name)
def test_a_shipped_config_opens_with_its_command_and_is_well_formed(file: Path) -> None:
    first = file.read_text("utf-8").splitlines()[0]
    assert first.startswith(("# prefrec ", "# make "))
    assert run(["validate", str(file)]) == 0


def test_sections_of_data_and_evaluation_need_neither_ray_nor_torch(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    source = "{kind: files, path: x, user: u, item: i, time: t}"
    file.write_text(f"simulate:\nprepare:\n  source: {source}\nevaluate:\n")
    code = (
        f"import sys; from prefrec_ray.cli.main import run; assert run(['validate', {str(file)!r}]) == 0; "
        "print(sorted({'ray', 'torch', 'pandas', 'scipy', 'pyarrow.parquet'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
