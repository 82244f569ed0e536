"""Several servers on a Ray cluster, by Ray Serve: shards, each with its own users and folder, behind one gateway.

A user's shard is a hash of the user's id. Each shard is a deployment with one replica, so its name determines its
folder. The gateway has no state, and may have any number of replicas.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import pyarrow as pa
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from pydantic import Field
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream, hash_ids
from prefrec_ray.serving import http
from prefrec_ray.serving.clients import Clients
from prefrec_ray.serving.folder.opened import Opened
from prefrec_ray.serving.requests.bodies import Feedback, FeedbackBatch, RecommendBatch, parse_feedback, parse_recommend
from prefrec_ray.serving.server import WAITING, Server
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.state.users import UserId
from prefrec_ray.settings import Settings
from prefrec_ray.settings import parse as parse_settings
from prefrec_ray.web.problems import MEDIA_TYPE, Problem, answer_of

#: Status and body of a shard's reply.
Answered = tuple[int, bytes]


class ShardSettings(Settings):
    """The key `args` of a Ray Serve config."""

    policy: str = Field(description="policy bundle: RUN/policy, or an alias of one")
    state: str = Field(
        description="parent folder of the shards' folders, on a disk that each shard can reach after a restart"
    )
    shards: Annotated[int, Field(ge=1, le=1024)] = Field(
        description="number of shards; fixed, since states of users cannot move"
    )
    serve: ServeSettings = ServeSettings()

    def folder(self, number: int) -> str:
        """Return the folder of the shard `number`, with its log and its users' state."""
        return storage.join(self.state, f"shard-{number:04d}-of-{self.shards:04d}")

    def check_number(self) -> None:
        """Check that `state` was made with this number of shards, since users cannot move. Raises `UserError`."""
        for folder in storage.list_folders(self.state):
            if "/shard-" in folder and not folder.endswith(f"-of-{self.shards:04d}"):
                raise UserError(
                    f"shards: found {self.shards}; expected the number of shards of {self.state}, which has {folder}"
                )


def app(args: dict[str, Any]) -> Application:
    """Return the application of a Ray Serve config (cluster/serve.yaml). Raises `UserError` for wrong `args`."""
    settings = parse_settings(ShardSettings, args, "serve: args")
    shards = [_deployment(Shard, f"shard-{k}", 1).bind(settings, k) for k in range(settings.shards)]
    return _deployment(Gateway, "Gateway", 0).bind(shards)


def _deployment(of: type, name: str, cpus: int) -> serve.Deployment:
    return serve.deployment(name=name, max_ongoing_requests=WAITING, ray_actor_options={"num_cpus": cpus})(of)


def shard_of(user: UserId, shards: int) -> int:
    """Return the number of a user's shard: the same on every gateway and after every restart."""
    kind = pa.string() if isinstance(user, str) else pa.int64()
    return int(hash_ids(pa.array([user], kind), Stream.HOST)[0] % shards)


class Shard:
    """Server for one shard of the users.

    Raises `UserError` as `Opened` does, and for another number of shards in `state`.
    """

    async def __init__(self, settings: ShardSettings, number: int) -> None:  # type: ignore[misc]
        settings.check_number()
        opened = Opened(settings.policy, settings.folder(number), settings.serve)
        self._log_id, self._server = opened.log_id, Server(opened)
        http.settle()
        await self._server.start()

    async def log_id(self) -> str:
        """Return the prefix of the event ids that this shard assigns."""
        return self._log_id

    async def ask(self, method: str, path: str, body: bytes, caller: http.Caller) -> Answered:
        """Return status and body of the reply to an HTTP request that the gateway has checked."""
        reply = await http.counted(self._server, path, caller, http.reply_to(self._server, method, path, body))
        return reply.status_code, bytes(reply.body)

    def check_health(self) -> None:
        """Raise an error if Ray Serve should restart the shard."""
        if not self._server.healthy:
            raise RuntimeError("the log failed, or the state differs from it")

    async def __del__(self) -> None:  # called by Ray Serve when a replica ends
        if hasattr(self, "_server"):
            await self._server.stop()


class Gateway:
    """Passes each HTTP request to the shard of its user, and changes of items and policies to all shards."""

    def __init__(self, shards: Sequence[DeploymentHandle]) -> None:
        self._clients = Clients.from_environment(http.TOKEN, http.CLIENTS)
        if self._clients is None:
            raise UserError(
                f"{http.TOKEN}: not set in the gateway's process; expected a token, or a file in {http.CLIENTS}"
            )
        self._shards = list(shards)
        self._of_log: dict[str, int] = {}

    async def __call__(self, request: Request) -> Response:
        """Return the reply of one shard, or the joint reply of all."""
        caller = http.Caller.from_headers(request.scope)
        try:
            path = request.scope["path"]
            method, body = await http.read_request(request.scope, request.receive, self._clients, caller)
            status, content = await self._answer(method, path, body, caller)
        except Problem as problem:
            return caller.sign(answer_of(problem))
        media = MEDIA_TYPE if status >= 400 else http.METRICS_TYPE if path == "/metrics" else "application/json"
        return caller.sign(Response(content, status, media_type=media))

    async def _answer(self, method: str, path: str, body: bytes, caller: http.Caller) -> Answered:
        sent = method, path, body, caller
        if path == "/recommend":
            command = parse_recommend(body)
            if isinstance(command, RecommendBatch):
                return await self._recommend_all(command, caller)
            return await self._of(shard_of(command.user, len(self._shards)), *sent)
        if path == "/feedback":
            return await self._of(await self._shard_of(parse_feedback(body)), *sent)
        every = (self._of(number, *sent) for number in range(len(self._shards)))
        return together(path, await asyncio.gather(*every))

    async def _recommend_all(self, command: RecommendBatch, caller: http.Caller) -> Answered:
        """Return the replies of the users' shards, in the order of the requests.

        Raises `Problem` for the first refusal, though other shards may have logged their recommendations.
        """
        each = []
        for one in command.requests:
            body = one.model_dump_json(exclude_unset=True).encode()
            each.append(self._of(shard_of(one.user, len(self._shards)), "POST", "/recommend", body, caller))
        answers = await asyncio.gather(*each)
        for prefix, (status, content) in zip(command.parts, answers, strict=True):
            if status >= 400:
                raise Problem(status, prefix + json.loads(content)["detail"])
        return 200, b'{"replies":[%s]}' % b",".join(content for _, content in answers)

    async def _shard_of(self, body: Feedback | FeedbackBatch) -> int:
        """Return the shard that issued the event's id; the user's shard if the id is the client's own."""
        if len(self._of_log) < len(self._shards):
            names = await asyncio.gather(*(shard.log_id.remote() for shard in self._shards), return_exceptions=True)
            self._of_log = {name: number for number, name in enumerate(names) if isinstance(name, str)}
        number = self._of_log.get(body.event_id.rpartition("-")[0])
        if number is not None:
            return number
        if body.user is not None:
            return shard_of(body.user, len(self._shards))
        if len(self._of_log) < len(self._shards):
            raise Problem(503, f"event_id: {body.event_id!r} may belong to a shard that does not reply; try again")
        return 0

    async def _of(self, number: int, method: str, path: str, body: bytes, caller: http.Caller) -> Answered:
        try:
            return await self._shards[number].ask.remote(method, path, body, caller)
        except Exception as error:  # the shard restarts, or its host is lost
            raise Problem(503, f"shard {number} does not reply ({type(error).__name__}); try again") from error


def together(path: str, answers: Sequence[Answered]) -> Answered:
    """Return the joint reply of all shards. Raises `Problem` for the first refusal."""
    for number, (status, content) in enumerate(answers):
        if status >= 400:
            raise Problem(status, f"shard {number}: {json.loads(content)['detail']}")
    if path == "/metrics":
        return 200, generate_latest(_Labelled([content.decode() for _, content in answers]))
    values = [json.loads(content) for _, content in answers]
    answer = dict(values[0])
    if path == "/healthz":
        answer |= {name: sum(value[name] for value in values) for name in ("users", "events")}
    elif path == "/reload":
        if any(value["policies"] != answer["policies"] for value in values):
            raise Problem(503, "shards read different policies; reload again")
        answer["changed"] = any(value["changed"] for value in values)
    return 200, json.dumps(answer, separators=(",", ":")).encode()


class _Labelled(Collector):
    """Metrics of all shards for Prometheus, with the label `shard`."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        """Return one family of metrics for all shards."""
        families: dict[str, Metric] = {}
        for number, text in enumerate(self._texts):
            for family in text_string_to_metric_families(text):
                joined = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    joined.samples.append(sample._replace(labels={**sample.labels, "shard": str(number)}))
        return families.values()
