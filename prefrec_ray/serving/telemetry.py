"""Metrics of a server for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from prefrec_ray.serving.state.state import ServedState

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)


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
