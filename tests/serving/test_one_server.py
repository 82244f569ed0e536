"""Image, systemd unit and Helm chart of one server: linted, not root, and with all that `prefrec serve` needs."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from linters import lint
from patience import soon
from platform_desk import make_policy
from served import TOKEN, Client

from prefrec_ray.cli.main import app
from prefrec_ray.serving.settings import ServeSettings

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "cluster" / "Dockerfile.serve"
UNIT = ROOT / "cluster" / "prefrec-serve.service"
CHART = ROOT / "cluster" / "helm"
#: Modules of the requirements that the image lacks. PyTorch itself requires jinja2.
LACKING = ("ray", "matplotlib", "sklearn")
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
        process.wait(soon(20))
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


def rendered(**changes: Any) -> list[dict[str, Any]]:
    """Return the objects of the chart as Helm renders them: paths of values, and the functions that the chart uses."""
    values = {**yaml.safe_load((CHART / "values.yaml").read_text("utf-8")), **changes}
    functions = {
        "toJson": lambda value: json.dumps(value, sort_keys=True, separators=(",", ":")),
        "quote": json.dumps,
        "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    }

    def value_of(match: re.Match[str]) -> str:
        path, *names = match[1].split(" | ")
        value = "recommend" if path == ".Release.Name" else values[path.removeprefix(".Values.")]
        for name in names:
            value = functions[name](value)
        return str(value)

    text = (CHART / "templates" / "server.yaml").read_text("utf-8")
    return list(yaml.safe_load_all(re.sub(r"{{ (.*?) }}", value_of, text)))


def test_the_chart_starts_the_image_with_its_settings_token_and_volume() -> None:
    settings, service, server = rendered(settings={"serve": {"feedback_hours": 48}}, policy="gs://bucket/policy")
    template = server["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    policy, *words = container["args"]
    check_options(container["args"])
    assert policy == "gs://bucket/policy"
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    folder, name = words[words.index("--config") + 1].rsplit("/", 1)
    assert volumes[mounts[folder]]["configMap"]["name"] == settings["metadata"]["name"]
    assert ServeSettings.model_validate(yaml.safe_load(settings["data"][name])["serve"]).feedback_hours == 48
    (claim,) = server["spec"]["volumeClaimTemplates"]
    assert words[words.index("--state") + 1] == "/state/log"
    assert mounts["/state"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert set(mounts.values()) == {*volumes, claim["metadata"]["name"]}
    assert server["spec"]["replicas"] == 1
    assert container["env"][0]["name"] == "PREFREC_SERVE_TOKEN"
    assert pod["securityContext"]["runAsUser"] == 1000
    for one in [container, *pod["initContainers"]]:
        assert one["image"] in IMAGE.read_text("utf-8")
        assert one["securityContext"]["readOnlyRootFilesystem"]
    (port,) = container["ports"]
    assert (port["containerPort"], port["name"]) == (8080, service["spec"]["ports"][0]["targetPort"])
    labels = template["metadata"]["labels"]
    assert service["spec"]["selector"] == server["spec"]["selector"]["matchLabels"] == labels


def test_other_settings_of_the_chart_restart_the_server() -> None:
    templates = [rendered(settings={"serve": {"seed": seed}})[2]["spec"]["template"] for seed in (1, 2)]
    first, second = (one["metadata"].pop("annotations") for one in templates)
    assert first != second
    assert templates[0] == templates[1]


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")
def test_helm_renders_the_chart_so() -> None:
    subprocess.run(["helm", "lint", "--strict", str(CHART)], check=True, stdout=subprocess.DEVNULL)
    text = subprocess.check_output(["helm", "template", "recommend", str(CHART)], text=True)
    assert list(yaml.safe_load_all(text)) == rendered()


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == version("prefrec-ray")
    assert f":{chart['version']}" in yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["image"]
