"""Routing of requests to shards and joining of replies, with replacements for shards and without Ray."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from http_server import scope_of
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from served import TOKEN
from starlette.requests import Request
from starlette.types import Message

from prefrec_ray.errors import UserError
from prefrec_ray.serving.http import TOKEN as VARIABLE
from prefrec_ray.serving.http import Caller
from prefrec_ray.serving.shards import Gateway, shard_of, together
from prefrec_ray.serving.telemetry import Metrics
from prefrec_ray.web.problems import Problem


class Handle:
    """Handle of a shard that replies with its number, or is absent."""

    def __init__(self, number: int) -> None:
        self.number, self.away = number, False
        self.ask = SimpleNamespace(remote=self._ask)
        self.log_id = SimpleNamespace(remote=self._log_id)

    async def _ask(self, method: str, path: str, body: bytes, caller: Caller) -> tuple[int, bytes]:
        self.caller = caller
        if self.away:
            raise RuntimeError("gone")
        return 200, json.dumps({"shard": self.number, "users": 10 + self.number, "events": 1}).encode()

    async def _log_id(self) -> str:
        if self.away:
            raise RuntimeError("gone")
        return f"0000000{self.number}"


@pytest.fixture
def handles() -> list[Handle]:
    return [Handle(number) for number in range(3)]


@pytest.fixture
def gateway(handles: list[Handle], monkeypatch: pytest.MonkeyPatch) -> Gateway:
    monkeypatch.setenv(VARIABLE, TOKEN)
    return Gateway(handles)  # type: ignore[arg-type]


def ask(gateway: Gateway, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
    content = b"" if body is None else json.dumps(body).encode()
    scope = scope_of(method, path)
    scope["headers"] += [
        (b"authorization", f"Bearer {token}".encode()),
        (b"content-length", str(len(content)).encode()),
    ]

    async def receive() -> Message:
        return {"type": "http.request", "body": content}

    response = asyncio.run(gateway(Request(scope, receive)))
    return response.status_code, json.loads(response.body)


def test_a_request_goes_to_the_shard_of_its_user(gateway: Gateway) -> None:
    for user in (*range(20), "a", "b", "c"):
        assert ask(gateway, "POST", "/recommend", {"user": user})[1]["shard"] == shard_of(user, 3)
        own = {"event_id": "mine-1", "user": user, "item": 1, "feedback": {}}
        assert ask(gateway, "POST", "/feedback", own)[1]["shard"] == shard_of(user, 3)


def test_a_batch_is_divided_and_replied_to_in_order(gateway: Gateway, handles: list[Handle]) -> None:
    users = [*range(20), *range(40, 45)]
    body = {"requests": [{"user": user, "k": 3} for user in users]}
    status, reply = ask(gateway, "POST", "/recommend", body)
    assert (status, [one["shard"] for one in reply["replies"]]) == (200, [shard_of(user, 3) for user in users])

    async def refuse(method: str, path: str, body: bytes, caller: Caller) -> tuple[int, bytes]:
        return 422, json.dumps({"detail": "k: too many"}).encode()

    handles[2].ask = SimpleNamespace(remote=refuse)
    first = next(place for place, user in enumerate(users) if shard_of(user, 3) == 2)
    status, problem = ask(gateway, "POST", "/recommend", body)
    assert (status, problem["detail"]) == (422, f"requests.{first}.k: too many")
    repeated = {"requests": [{"user": 1}, {"user": 1}]}
    assert ask(gateway, "POST", "/recommend", repeated)[1]["detail"].startswith("requests.1.user: found 1 twice")


def test_feedback_goes_to_the_shard_that_gave_its_id_whatever_user_it_names(gateway: Gateway) -> None:
    for number in range(3):
        for more in ({}, {"user": 1}, {"user": 2}):
            for content in ({"feedback": {}}, {"items": [{"item": 3, "feedback": {}}]}):
                body = {"event_id": f"0000000{number}-a", **content, **more}
                assert ask(gateway, "POST", "/feedback", body)[1]["shard"] == number


def test_a_shard_gets_the_client_and_the_id_of_a_request(gateway: Gateway, handles: list[Handle]) -> None:
    scope = scope_of("GET", "/healthz")
    scope["headers"] += [(b"x-request-id", b"from-a-proxy")]

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    response = asyncio.run(gateway(Request(scope, receive)))
    assert (response.status_code, response.headers["x-request-id"]) == (200, "from-a-proxy")
    assert [handle.caller for handle in handles] == [Caller("from-a-proxy")] * 3
    ask(gateway, "POST", "/recommend", {"user": 1})
    assert handles[shard_of(1, 3)].caller.client == "default"


def test_a_shard_that_is_away_is_missed_by_its_own_users_alone(gateway: Gateway, handles: list[Handle]) -> None:
    handles[1].away = True
    for user in range(20):
        status, answer = ask(gateway, "POST", "/recommend", {"user": user})
        assert status == (503 if shard_of(user, 3) == 1 else 200)
    assert answer is not None
    assert ask(gateway, "POST", "/feedback", {"event_id": "00000002-a", "feedback": {}})[1]["shard"] == 2
    status, problem = ask(gateway, "POST", "/feedback", {"event_id": "00000001-a", "feedback": {}})
    assert (status, "may belong to a shard that does not reply" in problem["detail"]) == (503, True)
    assert ask(gateway, "GET", "/healthz")[0] == 503
    handles[1].away = False
    assert ask(gateway, "POST", "/feedback", {"event_id": "00000001-a", "feedback": {}})[1]["shard"] == 1
    assert ask(gateway, "GET", "/healthz")[1]["users"] == 33


def test_who_sends_no_token_or_no_form_reaches_no_shard(gateway: Gateway, handles: list[Handle]) -> None:
    for handle in handles:
        handle.away = True
    assert ask(gateway, "POST", "/recommend", {"user": 1}, token="another one")[0] == 401
    assert ask(gateway, "POST", "/recommend", {"user": 1.5})[0] == 422
    assert ask(gateway, "POST", "/feedback", {"event_id": "x" * 200_000, "feedback": {}})[0] == 413


def test_without_a_token_there_is_no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match="PREFREC_SERVE_TOKEN: not set in the gateway's process"):
        Gateway([])


def test_the_first_refusal_speaks_for_all() -> None:
    refused = 409, json.dumps({"detail": "item 3: has another embedding", "status": 409}).encode()
    with pytest.raises(Problem, match=r"^shard 1: item 3: has another embedding$") as caught:
        together("/items", [(200, b'{"items": 1}'), refused, refused])
    assert caught.value.status == 409


def test_shards_that_read_different_policies_are_told() -> None:
    answers = [(200, json.dumps({"policies": {"main": name}, "changed": name == "b"}).encode()) for name in "aab"]
    assert json.loads(together("/reload", answers[:2])[1]) == {"policies": {"main": "a"}, "changed": False}
    with pytest.raises(Problem, match=r"^shards read different policies; reload again$") as caught:
        together("/reload", answers)
    assert caught.value.status == 503


def test_numbers_for_prometheus_are_told_by_shard() -> None:
    texts = []
    for number in range(2):
        metrics = Metrics()
        metrics.feedback.labels("counted").inc(3 + number)
        metrics.commit.observe(0.004)
        texts.append((200, generate_latest(metrics.registry)))
    status, content = together("/metrics", texts)
    families = {family.name: family for family in text_string_to_metric_families(content.decode())}
    counted = {
        sample.labels["shard"]: sample.value
        for sample in families["prefrec_serve_feedback"].samples
        if sample.name.endswith("_total")
    }
    assert (status, counted) == (200, {"0": 3.0, "1": 4.0})
    assert len([s for s in families["prefrec_serve_commit_seconds"].samples if s.name.endswith("_count")]) == 2
