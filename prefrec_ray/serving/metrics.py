"""Metrics of a server for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Replies, by route and status.", "route", "status")
        self.recommended = self._counter("recommended", "Recommendations, by arm.", "arm")
        self.feedback = self._counter("feedback", "Feedback: counted, repeated, or on an unknown item.", "outcome")
        self.failed = self._counter("commits_failed", "Batches that could not be written to the log.")
        self.reloads = self._counter("reloads", "Reloads of policies, by outcome.", "outcome")
        self.seconds = self._histogram("request_seconds", "Time to a reply, by route.", _SECONDS, "route")
        self.commit = self._histogram("commit_seconds", "Time until a batch is on the disk.", _SECONDS)
        self.batch = self._histogram("batch_requests", "HTTP requests per batch.", (1, 2, 4, 8, 16, 32))
        self.users = self._gauge("users", "Known users.")
        self.items = self._gauge("items", "Items that are not withdrawn, by arm.", "arm")
        self.events = self._gauge("events", "Rows of the event log.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"prefrec_serve_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"prefrec_serve_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"prefrec_serve_{name}", text, labels, buckets=buckets, registry=self.registry)
