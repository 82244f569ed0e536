"""Joint replies of all shards."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from prefrec_ray.web.problems import Problem, answer_of

#: Status and body.
Answered = tuple[int, bytes]


def together(path: str, answers: Sequence[Answered]) -> Answered:
    """Return the joint reply of all shards: the first refusal, else the sum of their replies."""
    for number, (status, content) in enumerate(answers):
        if status >= 400:
            problem = Problem(status, f"shard {number}: {json.loads(content)['detail']}")
            return status, bytes(answer_of(problem).body)
    if path == "/metrics":
        return 200, _metrics([content.decode() for _, content in answers])
    values = [json.loads(content) for _, content in answers]
    answer = dict(values[0])
    if path == "/healthz":
        answer |= {name: sum(value[name] for value in values) for name in ("users", "events")}
    elif path == "/reload":
        if any(value["policies"] != answer["policies"] for value in values):
            return 503, bytes(answer_of(Problem(503, "shards read different policies; reload again")).body)
        answer["changed"] = any(value["changed"] for value in values)
    return 200, json.dumps(answer, separators=(",", ":")).encode()


def _metrics(texts: Sequence[str]) -> bytes:
    """Return the metrics of all shards for Prometheus, with the label `shard`."""
    registry = CollectorRegistry()
    registry.register(_Labelled(texts))
    return generate_latest(registry)


class _Labelled(Collector):
    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def collect(self) -> list[Metric]:
        """Return one family of metrics for all shards."""
        families: dict[str, Metric] = {}
        for number, text in enumerate(self._texts):
            for family in text_string_to_metric_families(text):
                joined = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    joined.samples.append(sample._replace(labels={**sample.labels, "shard": str(number)}))
        return list(families.values())
