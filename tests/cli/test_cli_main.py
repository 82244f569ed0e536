import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from patience import soon

import prefrec_ray
from prefrec_ray.cli import config, quickstart
from prefrec_ray.cli.config import open_section
from prefrec_ray.cli.main import app, run
from prefrec_ray.errors import UserError
from prefrec_ray.runtime import end_on_sigterm, start
from prefrec_ray.runtime.start import start_ray

COMMANDS = [
    *(
        "quickstart",
        "simulate",
        "inspect",
        "prepare",
        "pairs",
        "import-labels",
        "label",
        "train",
        "tune",
        "export",
        "forget",
        "evaluate",
        "constrain",
        "bench",
    ),
    *(
        "report",
        "serve",
        "compare",
        "plan-test",
        "nightly",
        "status",
        "rollback",
        "repair",
        "validate",
        "plugins",
        "push",
        "pull",
        "submit",
        "doctor",
    ),
]


def test_every_command_is_there() -> None:
    registered = [*app.registered_commands, *app.registered_groups]
    assert sorted(command.name for command in registered) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"prefrec {command}" in out or f" {command} [OPTIONS]" in out
    assert err == ""
    examples = [line.strip() for line in out.partition("examples:")[2].splitlines() if line.strip()]
    assert 1 <= len(examples) <= 3
    parsed = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    for example in examples:
        name, *words = shlex.split(example)[1:]
        assert name == command
        parsed.make_parser(typer.Context(parsed, info_name=name)).parse_args(words)


def test_the_help_has_the_commands_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    titles = re.findall(r"─ ([A-Z][A-Za-z ]+) ─", capsys.readouterr().out)
    groups = [
        "First steps",
        "Data",
        "Labels from annotators",
        "Training",
        "Evaluation",
        "Serving",
        "Hugging Face Hub",
        "Cluster",
    ]
    assert titles == ["Options", *groups]


def test_help_needs_neither_ray_nor_torch_nor_time() -> None:
    start = time.perf_counter()
    code = (
        "import sys; from prefrec_ray.cli.main import run; assert run(['--help']) == 0; "
        "assert not {'ray', 'torch', 'pyarrow', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.perf_counter() - start < soon(3.0)  # a quarter of a second on an idle machine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'CONFIG'"),
        (["simulate", "x.yaml"], "Missing option '--output'"),
        (["validate", "x.yaml", "--foo"], "No such option: --foo"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("prefrec: error: ")
    assert message in err
    assert err.count("\n") == 1


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def raise_it(uri: str) -> None:
        raise error

    monkeypatch.setattr(config, "load_sections", raise_it)
    return run(["validate", "any.yaml"])


def test_a_user_error_inside_other_errors_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = RuntimeError("a task failed")
    wrapped.__cause__ = UserError("column 'x': missing\nadvice of Ray")
    assert fail(monkeypatch, wrapped) == 2
    assert capsys.readouterr().err == "prefrec: error: column 'x': missing\n"


def test_ctrl_c_is_one_line_and_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.strip().splitlines() == ["prefrec: interrupted"]


def test_sigterm_while_ray_waits_is_one_line_and_143(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray replaces the exception of a signal handler by SystemExit(1)."""
    monkeypatch.setattr(start, "_came", [])
    before = signal.getsignal(signal.SIGTERM)
    end_on_sigterm()
    try:
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert fail(monkeypatch, SystemExit(1)) == 143
    assert capsys.readouterr().err == "prefrec: terminated\n"
    monkeypatch.setattr(start, "_came", [])
    with pytest.raises(SystemExit):
        fail(monkeypatch, SystemExit(1))


def test_ray_that_does_not_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def too_late(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", too_late)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("prefrec_ray.runtime.start_ray", start_ray)  # instead of the refusal of conftest.py
    assert run(["quickstart", "--output", str(tmp_path / "quickstart")]) == 2
    err = capsys.readouterr().err
    assert "Ray did not start within 30 s: this machine is busy" in err
    assert "join it by RAY_ADDRESS=auto" in err  # no command that starts Ray has an option for it
    assert "Traceback" not in err


def test_the_settings_of_a_quickstart_hold_its_folder_whatever_it_is_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """YAML cuts a path at a blank and #: prepare by hand looked for another folder."""

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, "_run", ended)
    folder = tmp_path / "try: 1 #2"
    assert run(["quickstart", "--output", str(folder)]) == 130
    assert open_section(str(folder / "quickstart.yaml"), "prepare").source.path == f"{folder}/logs"


def test_a_bug_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(monkeypatch, ZeroDivisionError())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"prefrec {prefrec_ray.__version__}\n"


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str, number: int) -> list[str]:
        env = {**os.environ, "_PREFREC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        code = "import sys; sys.argv = ['prefrec']; from prefrec_ray.cli.main import app; app(prog_name='prefrec')"
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.split()

    assert completed("prefrec ro", 1) == ["rollback"]
    assert "--resume" in completed("prefrec train --", 2)


def test_a_command_that_forgot_to_start_ray_joins_nothing() -> None:
    code = (
        "from prefrec_ray.cli.main import app, main\n"
        "@app.command('forgetful')\n"
        "def command():\n"
        "    import ray\n"
        "    ray.put(1)\n"
        "main(['forgetful'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Ray has not been started yet" in done.stderr


def test_nothing_follows_the_one_line(tmp_path: Path) -> None:
    # Like Ray, from another thread during its shutdown.
    code = (
        "import atexit, os; atexit.register(os.write, 2, b'[task_manager.cc] Failed to push error\\n');"
        f"from prefrec_ray.cli.main import main; main(['report', {str(tmp_path / 'nowhere')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("prefrec: error: ")
    assert done.stderr.count("\n") == 1, done.stderr
