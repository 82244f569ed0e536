"""Metrics of a server for Prometheus, and traces by OpenTelemetry.

A trace has one span per HTTP request, with its route, status and `X-Request-ID`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp

from prefrec_ray.errors import need
from prefrec_ray.serving.state.state import ServedState

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)
#: The standard variable with the URL of the collector. OpenTelemetry's other variables have their meaning, too.
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Metrics:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: dict[str, Any] = {"namespace": "prefrec_serve", "registry": self.registry}
        self.requests = Counter(
            "requests", "Replies, by route, status and client.", ["route", "status", "client"], **of
        )
        self.recommended = Counter("recommended", "Recommendations, by arm.", ["arm"], **of)
        self.short = Counter("short", "Recommendations of fewer items than requested, by arm.", ["arm"], **of)
        self.feedback = Counter(
            "feedback", "Feedback: `counted`, `known` (sent before), or on an `unknown item`.", ["outcome"], **of
        )
        self.failed = Counter("commits_failed", "Batches that could not be written to the log.", **of)
        self.reloads = Counter("reloads", "Reloads of policies, by outcome.", ["outcome"], **of)
        self.seconds = Histogram("request_seconds", "Time to a reply, by route.", ["route"], buckets=_SECONDS, **of)
        self.commit = Histogram("commit_seconds", "Time until a batch is on the disk.", buckets=_SECONDS, **of)
        self.batch = Histogram("batch_requests", "HTTP requests per batch.", buckets=(1, 2, 4, 8, 16, 32), **of)
        self.users = Gauge("users", "Known users.", **of)
        self.items = Gauge("items", "Items that are not withdrawn, by arm.", ["arm"], **of)
        self.shares = Gauge("arm_share", "Share of the users, by arm and policy.", ["arm", "policy"], **of)
        self.events = Gauge("events", "Rows of the event log.", **of)

    def count(self, route: str, status: int, client: str, seconds: float) -> None:
        self.requests.labels(route, str(status), client).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self, state: ServedState) -> bytes:
        """Return all metrics in Prometheus' text format, with the sizes of `state`."""
        self.users.set(len(state.users))
        self.events.set(state.next)
        for of_arms in (self.items, self.shares):
            of_arms.clear()  # arms that have ended
        for arm, policy, share in state.shares:
            self.shares.labels(arm, policy).set(share)
        for one, shelf in zip(state.loaded, state.shelves, strict=True):
            self.items.labels(one.arm).set(len(shelf.policy.items) - len(shelf.gone))
        return generate_latest(self.registry)


if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def span_provider() -> TracerProvider | None:
    """Return a provider that sends spans by OTLP over HTTP, or None if `ENDPOINT` is not set.

    Raises `UserError` if it is set and the extra `traces` is not installed.
    """
    if not os.environ.get(ENDPOINT):
        return None
    # Outer packages first, since a package cannot be looked for in one that is missing.
    otlp = ("opentelemetry.exporter", "opentelemetry.exporter.otlp")
    need("traces", "opentelemetry", "opentelemetry.instrumentation", *otlp, where=ENDPOINT)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", "prefrec-serve")
    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))  # ends with the process
    return provider


def traced(app: ASGIApp, provider: TracerProvider) -> ASGIApp:
    """Return `app` with a span of `provider` per HTTP request, except for health checks and metrics."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(
        app,
        excluded_urls="/healthz,/metrics",
        tracer_provider=provider,
        exclude_spans=["receive", "send"],
        http_capture_headers_server_response=["x-request-id"],
    )
