"""Metrics of a server for Prometheus."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROUTES = ("/recommend", "/feedback", "/items", "/reload", "/healthz", "/metrics")
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: dict[str, Any] = {"namespace": "prefrec_serve", "registry": self.registry}
        self.requests = Counter("requests", "Replies, by route and status.", ["route", "status"], **of)
        self.recommended = Counter("recommended", "Recommendations, by arm.", ["arm"], **of)
        self.feedback = Counter("feedback", "Feedback: counted, repeated, or on an unknown item.", ["outcome"], **of)
        self.failed = Counter("commits_failed", "Batches that could not be written to the log.", **of)
        self.reloads = Counter("reloads", "Reloads of policies, by outcome.", ["outcome"], **of)
        self.seconds = Histogram("request_seconds", "Time to a reply, by route.", ["route"], buckets=_SECONDS, **of)
        self.commit = Histogram("commit_seconds", "Time until a batch is on the disk.", buckets=_SECONDS, **of)
        self.batch = Histogram("batch_requests", "HTTP requests per batch.", buckets=(1, 2, 4, 8, 16, 32), **of)
        self.users = Gauge("users", "Known users.", **of)
        self.items = Gauge("items", "Items that are not withdrawn, by arm.", ["arm"], **of)
        self.events = Gauge("events", "Rows of the event log.", **of)


class ReplyMetrics:
    """Counts the replies of `app` by route and measures their time; paths without a route count as `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500
        route = scope["path"] if scope["path"] in ROUTES else "other"

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begin)
