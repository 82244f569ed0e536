"""Spans of HTTP requests, if the extra `traces` is installed."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from http_server import called, scope_of
from platform_desk import make_policy, with_server
from served import ALL, TOKEN, serving
from threaded import in_thread

from prefrec_ray.errors import UserError
from prefrec_ray.serving.http import ServerApp
from prefrec_ray.serving.server import Server
from prefrec_ray.serving.telemetry import ENDPOINT, span_provider, traced

for module in ("opentelemetry.instrumentation.asgi", "opentelemetry.exporter.otlp.proto.http"):
    pytest.importorskip(module)


def test_without_an_endpoint_there_are_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert span_provider() is None


def test_an_endpoint_without_the_packages_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://localhost:4318")
    monkeypatch.setattr("prefrec_ray.errors.find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"^{ENDPOINT}: opentelemetry is not installed; install it by: .*\[traces\]"):
        span_provider()


def test_a_request_is_a_span_without_its_token(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    make_policy().save(str(tmp_path / "policy"))

    async def act(server: Server) -> None:
        app = traced(ServerApp(server, ALL), provider)
        for path, status in (("/recommend", 200), ("/healthz", 200), ("/metrics", 200)):
            scope = scope_of("POST" if path == "/recommend" else "GET", path)
            scope["headers"] += [(b"authorization", f"Bearer {TOKEN}".encode()), (b"x-request-id", b"mine")]
            content = json.dumps({"user": 1}).encode() if path == "/recommend" else b""
            assert (await called(app, scope, content)).status_code == status

    with_server(tmp_path / "policy", tmp_path / "state", act)
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["http.status_code"] == 200
    assert span.attributes["http.response.header.x_request_id"] == ("mine",)
    assert "/recommend" in span.name
    assert TOKEN not in span.to_json()


def test_a_server_sends_its_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

    make_policy().save(str(tmp_path / "policy"))
    with in_thread(HTTPServer(("127.0.0.1", 0), Collector)) as collector:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{collector.server_port}")
        with serving(tmp_path / "policy", tmp_path / "state") as server:
            server.client().post("/recommend", user=1, k=1)
    (path, body), *_ = received
    assert path == "/v1/traces"
    assert b"/recommend" in body
    assert b"prefrec-serve" in body
