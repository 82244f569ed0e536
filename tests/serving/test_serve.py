"""`prefrec serve` over HTTP: replies, refusals and failures."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from platform_desk import Desk, make_policy
from served import TOKEN, Client, Process, serving
from small_disk import small_disk

from prefrec_ray.cli.main import run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_policy(items=300).save(str(folder))
    return folder


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(bundle, tmp_path_factory.mktemp("served") / "state") as process:
        process.client().post("/recommend", user=0, k=1)  # user ids are whole numbers
        yield process


@pytest.fixture
def client(server: Process) -> Client:
    return server.client()


def test_its_imports_take_seconds_and_contain_neither_ray_nor_training() -> None:
    code = (
        "import sys, time, prefrec_ray.cli.main, prefrec_ray.serving.http\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('ray', 'gymnasium', 'pandas')"
        " or name.startswith(('prefrec_ray.algorithms', 'prefrec_ray.runs', 'prefrec_ray.dataset.prepare'))])\n"
        "print(time.process_time())"
    )
    modules, seconds = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert modules == "[]"
    assert float(seconds) < 6  # about 2 s of processor time


def test_a_user_is_given_items_and_what_was_given_is_not_given_again(client: Client) -> None:
    pages = [client.post("/recommend", user=1, k=50) for _ in range(6)]
    items = [item for answer in pages for item in answer["items"]]
    assert sorted(items) == list(range(300))
    assert all(0 < chance <= 1 for answer in pages for chance in answer["propensities"])
    assert {answer["arm"] for answer in pages} == {"main"}
    assert len({answer["event_id"] for answer in pages}) == 6
    assert client.post("/recommend", user=1, k=50)["items"] == []  # nothing is left: an answer, no error


def test_what_is_excluded_is_not_given_and_unknown_items_are_no_mistake(client: Client) -> None:
    answer = client.post("/recommend", user=2, k=64, exclude=[*range(250), 10**6, "an id of another kind"])
    assert sorted(answer["items"]) == list(range(250, 300))


def test_feedback_counts_once(client: Client) -> None:
    shown = client.post("/recommend", user=3, k=2)
    body = {"event_id": shown["event_id"], "item": shown["items"][1], "feedback": {"like": 1, "watch": 0.5}}
    assert [client.post("/feedback", **body)["status"] for _ in range(3)] == ["counted", "known", "known"]
    own = {"event_id": "an id of my own", "user": 3, "item": shown["items"][0], "feedback": {}}
    assert [client.post("/feedback", **own)["status"] for _ in range(2)] == ["counted", "known"]


def test_items_come_and_go(client: Client) -> None:
    new = {"items": [{"id": 1000, "embedding": [0.5, 0.25, -1.0]}]}
    assert client.ask("PUT", "/items", new) == (200, {"items": 1})
    assert client.ask("PUT", "/items", new) == (200, {"items": 1})
    everything = list(range(300))
    assert client.post("/recommend", user=4, k=1, exclude=everything)["items"] == [1000]
    assert client.ask("DELETE", "/items", {"ids": [1000, 7, 77777]}) == (200, {"items": 2, "unknown": 1})
    assert client.post("/recommend", user=5, k=1, exclude=everything)["items"] == []
    assert client.post("/recommend", user=5, k=1, exclude=[n for n in everything if n != 7])["items"] == []
    status, problem = client.ask("PUT", "/items", {"items": [{"id": 8, "embedding": [0.0, 0.0, 0.0]}]})
    assert (status, problem["status"]) == (409, 409)
    assert client.ask("PUT", "/items", {"items": [{"id": 9000, "embedding": [0.0]}]})[0] == 409
    client.ask(
        "PUT", "/items", {"items": [{"id": 7, "embedding": make_policy(items=300).items.embeddings[7].tolist()}]}
    )
    assert client.post("/recommend", user=5, k=1, exclude=[n for n in everything if n != 7])["items"] == [7]


def test_health_needs_no_token_and_nothing_else_goes_without(server: Process) -> None:
    server.client()
    stranger = Client(server.port, token=None)
    assert stranger.ask("GET", "/healthz")[0] == 200
    for method, path, body in (
        ("POST", "/recommend", {"user": 1}),
        ("POST", "/feedback", {}),
        ("PUT", "/items", {}),
        ("DELETE", "/items", {}),
        ("POST", "/reload", None),
        ("GET", "/metrics", None),
        ("GET", "/nope", None),
    ):
        for token in (None, "another token of some length", TOKEN[:-1]):
            content = None if body is None else json.dumps(body).encode()
            headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
            status, _, answer = Client(server.port).raw(method, path, content, headers)
            assert status == 401
            assert json.loads(answer)["title"] == "Unauthorized"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, ""),
        (b"{", 400, "Invalid JSON"),
        (b"[" * 50_000, 400, ""),
        (b"{}", 422, "key 'user' is missing"),
        (b'{"user": 1.5}', 422, "key 'user': expected a whole number or a text, found 1.5"),
        (b'{"user": "a"}', 422, "user: found 'a'; expected a whole number, as for all earlier ids"),
        (b'{"user": 9223372036854775808}', 422, "user"),
        (b'{"user": 1, "k": 0}', 422, "key 'k': expected greater than or equal to 1, found 0"),
        (b'{"user": 1, "k": 65}', 422, "key 'k': expected less than or equal to 64, found 65"),
        (b'{"user": 1, "timestamp": NaN}', 422, "timestamp"),
        (b'{"user": 1, "features": {"age": "9"}}', 422, "features.age: unknown feature; expected some of country"),
        (b'{"user": 1, "kk": 3}', 422, "key 'kk': unknown key; did you mean 'k'?"),
        (b'{"user": 1, "exclude": ' + json.dumps([1] * 5000).encode() + b"}", 422, "exclude"),
        (b" " * 2_000_000, 413, "expected at most 1,048,576"),
    ],
)
def test_a_bad_request_is_a_problem(client: Client, body: bytes, status: int, words: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    code, sent, answer = client.raw("POST", "/recommend", body, headers)
    problem = json.loads(answer)
    assert (code, problem["status"], sent["content-type"]) == (status, status, "application/problem+json")
    assert words in problem["detail"]
    assert len(problem["detail"].splitlines()) == 1


def test_bad_feedback_is_a_problem(client: Client) -> None:
    shown = client.post("/recommend", user=6, k=2)
    event, item = shown["event_id"], shown["items"][0]
    log_id, _, number = event.rpartition("-")
    for body, status in (
        ({"event_id": event, "item": item, "feedback": {"like": 2}}, 422),
        ({"event_id": event, "item": item, "feedback": {"watch": -1}}, 422),
        ({"event_id": event, "item": item, "feedback": {"stars": 1}}, 422),
        ({"event_id": event, "item": item, "feedback": {"watch": 1e39}}, 422),
        ({"event_id": event, "feedback": {}}, 422),
        ({"event_id": event, "item": 10**6, "feedback": {}}, 422),
        ({"event_id": event, "item": item, "user": 7, "feedback": {}}, 422),
        ({"event_id": f"{log_id}-fffffff", "item": item, "feedback": {}}, 404),
        ({"event_id": f"{log_id}-0{number}", "item": item, "feedback": {}}, 404),
        ({"event_id": f"{log_id}-0", "item": item, "feedback": {}}, 404),  # the row of the arms
        ({"event_id": "unknown", "feedback": {}}, 404),
        ({"event_id": "mine", "user": 6, "item": "text", "feedback": {}}, 422),
    ):
        code, problem = client.ask("POST", "/feedback", body)
        assert (code, problem["status"]) == (status, status), body


def test_on_a_full_disk_nothing_acknowledged_is_lost(bundle: Path, tmp_path: Path) -> None:
    """The process tests/serving/fill_disk.py keeps the acknowledged events and compares them with the log."""
    disk, file = tmp_path / "disk", Path(__file__).parent / "fill_disk.py"
    helpers = {**os.environ, "PYTHONPATH": str(file.parents[1])}
    with small_disk(disk, kilobytes=3 * 1024):
        command = [sys.executable, str(file), str(bundle), str(disk)]
        done = subprocess.run(command, env=helpers, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "all of them are there" in done.stdout


def test_metrics_are_there(client: Client) -> None:
    client.post("/recommend", user=8, k=1)
    status, text = client.ask("GET", "/metrics")
    assert status == 200
    for name in (
        "requests_total",
        "recommended_total",
        "feedback_total",
        "request_seconds_bucket",
        "commit_seconds_sum",
    ):
        assert f"prefrec_serve_{name}" in text
    # The dashboard only uses existing metrics.
    dashboard = (Path(__file__).parents[2] / "cluster" / "grafana.json").read_text()
    drawn = set(re.findall(r"prefrec_serve_\w+", dashboard))
    assert len(drawn) == 5
    assert all(name in text for name in drawn)


@pytest.mark.parametrize(
    ("options", "token", "words"),
    [
        (("--host", "0.0.0.0"), "", "an address that others can reach"),
        (("--host", "127.0.0.1"), "short", "expected at least 16"),
        (("--host", "127.0.0.1"), 16 * " ", "found a token of 0 characters; expected at least 16"),
        (("--host", "ö..ü"), TOKEN, "--host ö..ü --port 0: cannot listen there"),
        (("--config", "nowhere.yaml"), "", "nowhere.yaml: no such file"),
    ],
)
def test_settings_that_cannot_be_served_are_one_line(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    token: str,
    words: str,
) -> None:
    monkeypatch.setenv("PREFREC_SERVE_TOKEN", token)
    assert run(["serve", str(bundle), "--state", str(tmp_path / "other"), "--port", "0", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert words in line
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_served_is_one_line(
    server: Process, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFREC_SERVE_TOKEN", TOKEN)

    def refusal(policy: Path, state: Path, port: int = 0) -> str:
        assert run(["serve", str(policy), "--state", str(state), "--port", str(port)]) == 2
        out, err = capsys.readouterr()
        (line,) = (out + err).splitlines()
        return line

    client = server.client()
    assert f"process {server.process.pid} on " in refusal(bundle, server.state)
    assert "cannot listen there" in refusal(bundle, tmp_path / "state", server.port)
    assert client.post("/recommend", user=9, k=1)["items"]
    Desk(bundle, tmp_path / "state").stop()
    make_policy(items=300, text=True).save(str(tmp_path / "text"))
    assert "item_ids: found string; expected int64" in refusal(tmp_path / "text", tmp_path / "state")
    Desk(bundle, tmp_path / "state").stop()  # all of them left it as it was


def test_a_server_computes_on_one_thread() -> None:
    """Small products on several threads wait for each other, and take three times as long."""
    code = "from prefrec_ray.serving.http import settle, torch; from threadpoolctl import threadpool_info; settle(); "
    code += "blas = [one['num_threads'] for one in threadpool_info() if one['user_api'] == 'blas']; "
    code += "print(blas, torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\[1(, 1)*\] 1\n", done.stdout), done.stdout
