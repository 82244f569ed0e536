"""Traces of a server by OpenTelemetry: one span per HTTP request, with its route, status and `X-Request-ID`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from prefrec_ray.errors import need

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

#: The standard variable with the URL of the collector. OpenTelemetry's other variables have their meaning, too.
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


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
