"""Image and systemd unit of one server: pinned, linted, not root, and with all that `prefrec serve` needs."""

import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import typer
from linters import lint
from platform_desk import make_policy
from served import TOKEN, Client

from prefrec_ray.cli.main import app

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "cluster" / "Dockerfile.serve"
UNIT = ROOT / "cluster" / "prefrec-serve.service"
#: Modules of the requirements that the image lacks. PyTorch itself requires jinja2.
LACKING = ("ray", "matplotlib", "sklearn", "detect_secrets")
SERVE = """
import sys
sys.modules.update(dict.fromkeys({lacking}))  # an import of them fails
from prefrec_ray.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def last_stage() -> str:
    """Return the commands of the image that is run, one per line."""
    text = IMAGE.read_text("utf-8").replace("\\\n", " ")
    return text.rpartition("\nFROM ")[2]


def check_options(words: list[str]) -> None:
    """Check that `prefrec serve` has the options. Raises an error of typer for another one."""
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    serve.make_parser(typer.Context(serve, info_name="serve")).parse_args(list(words))


def test_the_image_is_pinned_and_does_not_run_as_root() -> None:
    text = IMAGE.read_text("utf-8")
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == ["${BASE} AS build", "${BASE}"]
    assert len(re.findall(r"pip install .*-c constraints.txt", text)) == 2
    assert re.findall(r"^USER (.*)$", last_stage(), re.MULTILINE) == ["1000:1000"]
    assert "http://127.0.0.1:8080/healthz" in re.search(r"^HEALTHCHECK .*$", last_stage(), re.MULTILINE)[0]
    assert text.index("COPY pyproject.toml") < text.index("requirements.txt") < text.index("COPY prefrec_ray")
    command = re.search(r"^CMD (\[.*\])$", last_stage(), re.MULTILINE)
    assert command is not None
    check_options(re.findall(r'"([^"]+)"', command[1]))


def test_the_image_is_linted() -> None:
    lint("hadolint", str(IMAGE))


def test_the_image_has_what_a_server_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose modules are restricted to the requirements of the image replies."""
    (script,) = re.findall(r"python -c '(.*?)'", IMAGE.read_text("utf-8").replace("\\\n", ""), re.DOTALL)
    listed = subprocess.check_output([sys.executable, "-c", script], text=True, cwd=ROOT).split()
    names = {re.match(r"[a-z-]+", one)[0] for one in listed}
    assert {"numpy", "scipy", "faiss-cpu", "pyarrow", "typer", "starlette", "uvicorn"} <= names
    assert not names & {"ray", "torch", *LACKING}
    make_policy().save(str(tmp_path / "policy"))
    monkeypatch.setenv("PREFREC_SERVE_TOKEN", TOKEN)
    command = ["serve", str(tmp_path / "policy"), "--state", str(tmp_path / "state"), "--port", "0"]
    script = SERVE.format(lacking=LACKING)
    process = subprocess.Popen([sys.executable, "-c", script, *command], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = re.search(r"serving on http://\S+:(\d+) ", process.stdout.readline())
        assert port is not None
        assert len(Client(int(port[1])).post("/recommend", user=1, k=3)["items"]) == 3
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_the_unit_is_not_root_and_starts_an_existing_command() -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert service["User"] == "prefrec"
    assert (service["CapabilityBoundingSet"], service["NoNewPrivileges"], service["ProtectSystem"]) == (
        "",
        "yes",
        "strict",
    )
    program, command, *words = shlex.split(service["ExecStart"])
    assert (program, command) == ("/opt/prefrec/bin/prefrec", "serve")
    check_options(words)
    state = words[words.index("--state") + 1]
    assert state.startswith(f"/var/lib/{service['StateDirectory']}/")  # the claim is next to it


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/prefrec/bin/prefrec", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    exposure = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]  # 2.0 of 10
    assert subprocess.run(exposure, stdout=subprocess.DEVNULL).returncode == 0
    unit.write_text(unit.read_text("utf-8").replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in subprocess.run(done.args, capture_output=True, text=True).stderr
