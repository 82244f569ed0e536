"""Refusals of `prefrec submit` before anything is sent, and an address without a cluster."""

import os
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from patience import soon
from threaded import in_thread

from prefrec_ray.cli.main import run
from prefrec_ray.cluster import jobs
from prefrec_ray.errors import UserError


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "my.yaml"
    file.write_text("tune: {method: IL, dataset: /data}\ntrain: {dataset: /data}\n")
    return str(file)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    started = time.monotonic()
    assert run(arguments) == 2
    assert time.monotonic() - started < soon(30)
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_before_anything_is_sent(config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "unknown command 'tun'" in refused(capsys, "submit", config, "--command", "tun")
    line = refused(capsys, "submit", config, "--command", "prepare", "--output", "s3://b/x")
    assert "section 'prepare' is missing" in line
    assert "--output is missing" in refused(capsys, "submit", config)
    assert "--output: 'runs/x' is relative" in refused(capsys, "submit", config, "--output", "runs/x")
    line = refused(capsys, "submit", config, "--output", "s3://b/x", "--", "--dataset", "data/x")
    assert "--dataset: 'data/x' is relative" in line
    out = ("--output", "s3://b/x")
    assert "unknown key" in refused(capsys, "submit", config, "--command", "train", *out, "--", "expectle=1")
    assert "No such option: --datset" in refused(capsys, "submit", config, *out, "--", "--datset", "s3://b/d")
    assert "'runs/x' is relative" in refused(capsys, "submit", "--command", "report", "--", "runs/x")
    line = refused(
        capsys, "submit", config, "--command", "evaluate", "--", "s3://b/p", "run/p", "--dataset", "s3://b/d"
    )
    assert "evaluate: 'run/p' is relative" in line
    Path(config).write_text("tune: {}\nloop: {folder: nights}\n")
    assert "loop: key 'folder': 'nights' is relative" in refused(capsys, "submit", config, "--command", "nightly")
    Path(config).write_text("tune: {}\ntrain: {methd: IL}\n")
    assert "train: key 'methd': unknown key" in refused(capsys, "submit", config, *out)


def test_what_the_cluster_would_miss_is_told_before_it_is_sent(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local log, table or store, which would not be sent; a missing data set or option."""
    monkeypatch.setattr(jobs, "connect", lambda address: pytest.fail("the cluster was asked"))
    log = "kind: files, user: u, item: i, time: t, time_unit: s, path: {}"
    table = "{{path: items.csv, embedding: [x]}}"
    out = ("--output", "s3://b/x")
    for source, key, path in (
        (f"{{{{{log.format('ratings.csv')}}}}}", "source.path", "ratings.csv"),
        (f"{{{{{log.format('[s3://b/a, b.csv]')}}}}}", "source.path", "b.csv"),
        (f"{{{{{log.format('/logs')}, items: {table}}}}}", "source.items.path", "items.csv"),
        ("{{kind: simulator, path: logs}}", "source.path", "logs"),
        ("{{kind: events, path: [/a, b]}}", "source.path", "b"),
        ("{{kind: simulator, path: /logs}}, like: old", "like", "old"),
    ):
        section = f"prepare: {{source: {source.replace('{{', '{').replace('}}', '}')}}}\n"
        Path(config).write_text(section + "train: {}\nloop: {folder: /nights}\n")
        for command in (("prepare", *out), ("nightly",)):
            line = refused(capsys, "submit", config, "--command", *command)
            assert f"prepare: key '{key}': '{path}' is relative" in line
    for name in ("train", "tune"):
        Path(config).write_text("train: {}\ntune: {method: IL}\n")
        line = refused(capsys, "submit", config, "--command", name, *out)
        assert f"{config}: {name}: key 'dataset' is missing" in line
    assert "Missing option '--output'" in refused(capsys, "submit", "--command", "export", "--", "s3://b/c")
    assert "Missing option '--dataset'" in refused(capsys, "submit", config, "--command", "evaluate", "--", "s3://b/p")


@pytest.mark.parametrize(
    ("words", "line", "sent"),
    [
        (["CONFIG", "--output", "/x", "--", "--resume"], "tune my.yaml --resume --output /x", True),
        (["CONFIG", "--command", "nightly"], "nightly my.yaml", True),
        (
            ["CONFIG", "--command", "evaluate", "--", "/runs/a", "--dataset", "/data"],
            "evaluate /runs/a --dataset /data --config my.yaml",
            True,
        ),
        (["--command", "report", "--output", "/r.html", "--", "/runs"], "report /runs --output /r.html", False),
        (["--command", "export", "--output", "/p", "--", "/run/c"], "export /run/c --output /p", False),
    ],
)
def test_what_runs_on_the_cluster(
    words: list[str],
    line: str,
    sent: bool,
    config: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line of the job, whether the YAML goes with it, and with --no-wait nothing is followed."""
    Path(config).write_text("tune: {method: IL, dataset: /data}\nloop: {folder: /nights}\n")
    sent_jobs = []

    class Client:
        def submit_job(self, entrypoint: str, runtime_env: dict[str, Any], **_: Any) -> str:
            sent_jobs.append((entrypoint, [path.name for path in Path(runtime_env["working_dir"]).iterdir()]))
            return "raysubmit_1"

    monkeypatch.setattr(jobs, "connect", lambda address: Client())
    monkeypatch.setattr(jobs, "follow", lambda *_: pytest.fail("the job was followed"))
    assert run(["submit", "--no-wait", *(config if word == "CONFIG" else word for word in words)]) == 0
    assert sent_jobs == [(f"python -m prefrec_ray.cli.main {line}", ["my.yaml"] if sent else [])]
    assert "logs --follow raysubmit_1" in capsys.readouterr().out


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accept connections and never reply."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def other_service() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments: object) -> None:
            pass

    with in_thread(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield server.server_address[1]


@pytest.mark.parametrize("command", ["doctor", "submit"])
def test_addresses_where_no_cluster_is(
    command: str,
    config: str,
    capsys: pytest.CaptureFixture[str],
    silent_port: int,
    other_service: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 2.0)
    rest = [command, *([config, "--output", "s3://b/x"] if command == "submit" else []), "--address"]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert f"{address}: found no server; expected" in refused(capsys, *rest, address)
    assert "no dashboard of Ray" in refused(capsys, *rest, f"http://127.0.0.1:{silent_port}")
    assert "other than a dashboard of Ray (status 200)" in refused(capsys, *rest, f"http://127.0.0.1:{other_service}")
    assert "found no server" in refused(capsys, *rest, "http://no-such-host.invalid:8265")
    assert "no address of a dashboard" in refused(capsys, *rest, "10.0.0.1:6379")
    assert "http://[::1: found no address of a dashboard" in refused(capsys, *rest, "http://[::1")


def test_the_token_is_found_in_rays_own_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    assert jobs.token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home\n")
    assert jobs.token() == "home"
    (tmp_path / "named").write_text("named")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert jobs.token() == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert jobs.headers() == {"Authorization": "Bearer given"}


@pytest.mark.parametrize("secret", [b"hush\nhush", "hush€".encode(), b"hush\xff"])
def test_a_token_that_fits_into_no_header_is_one_line_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: bytes
) -> None:
    (tmp_path / "named").write_bytes(secret)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)  # of the Ray of other tests
    for variable in ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"):
        with pytest.raises(UserError, match=f"^{variable}: .*found characters other than printable ASCII") as caught:
            jobs.connect("http://127.0.0.1:9")
        assert "hush" not in str(caught.value)
        monkeypatch.setenv("RAY_AUTH_TOKEN", os.fsdecode(secret))
