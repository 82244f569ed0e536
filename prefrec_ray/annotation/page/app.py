"""HTTP server of the labeling page: routes, forms, cookies and permissions."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from prefrec_ray import storage
from prefrec_ray.annotation.aggregate import VoteScores
from prefrec_ray.annotation.page.access import TOKEN, FormGuard
from prefrec_ray.annotation.page.desk import Desk, LabelSettings, Stale
from prefrec_ray.annotation.page.pages import admin_page, guidelines, page, question_page
from prefrec_ray.annotation.page.store import Label, labels_of
from prefrec_ray.annotation.page.timeline import Items
from prefrec_ray.errors import UserError
from prefrec_ray.web.problems import Problem, of_validation
from prefrec_ray.web.run import check_address, listening, run_app, token_of_environment, url_of

SESSION, ADMIN_SESSION = "prefrec_label", "prefrec_label_admin"
#: Hours until the admin's link, which the command prints, expires.
ADMIN_HOURS = 12
_NAME = re.compile(r"[^\W_][\w .@+-]{0,63}")

NO_SESSION = "Open the link that you were sent. If it has ended, ask for a new one."
ENDED = "It has expired, was withdrawn, or was never valid. Ask for a new one."
STALE = "The answer was not saved, because it does not belong to your current question."
#: Titles of problems with their own page.
_TITLES = {NO_SESSION: "You need an invitation", ENDED: "This link has ended", STALE: "That page was out of date"}

_PACKAGE = files("prefrec_ray.annotation.page")
#: Votes between updates of the annotators' reliabilities.
_RESCORE = 20


class _Vote(BaseModel):
    question: Annotated[str, Field(max_length=64)]
    label: Label


class _Name(BaseModel):
    name: Annotated[str, Field(max_length=200)]


Form = TypeVar("Form", bound=BaseModel)


class Labeling:
    """Routes of the page, with their shared objects: the desk, the items, the guidelines, the token of the admin."""

    def __init__(self, desk: Desk, items: Items, guide: str) -> None:
        self.desk, self.items = desk, items
        self.guide = guidelines(guide)
        self.admin_token, self._admin_until = secrets.token_urlsafe(24), desk.now() + 3600 * ADMIN_HOURS
        self._votes_since_start = 0

    def annotator(self, request: Request) -> str:
        """Return the name of the annotator.

        Raises `Problem` (401) without a session, or after the invitation expired or was withdrawn.
        """
        name = self.desk.bearer(request.cookies.get(SESSION, ""))
        if name is None:
            raise Problem(401, NO_SESSION)
        return name

    def check_admin(self, request: Request) -> None:
        """Raise `Problem` (401) for anyone except the admin."""
        if not request.state.has_token and not self._is_admin(request.cookies.get(ADMIN_SESSION, "")):
            raise Problem(401, NO_SESSION)

    def _is_admin(self, token: str) -> bool:
        right = hmac.compare_digest(token.encode(), self.admin_token.encode())
        return right and self.desk.now() < self._admin_until

    def admin_page(self, request: Request, invited: str = "") -> Response:
        """Return the page of the admin. `invited` is the annotator with a new link, if any."""
        address, now = str(request.base_url).rstrip("/"), self.desk.now()
        people = self.desk.store.people()
        links = {name: f"{address}/enter/{token}" for name, (token, expires) in people.items() if expires > now}
        return HTMLResponse(admin_page(self.desk, links, invited))

    async def rescore(self) -> None:
        """Score all votes again, in a thread."""
        self.desk.take(await asyncio.to_thread(VoteScores.fit, self.desk.judged(), self.desk.gold))

    def app(self, token: str | None) -> Starlette:
        """Return the app. With a `token` it accepts any host, and requests with the token have the admin's rights."""

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            yield
            self.desk.store.close()

        return Starlette(
            routes=[
                Route("/", self._question),
                Route("/enter/{invitation}", self._enter),
                Route("/answer", self._vote, methods=["POST"]),
                Route("/undo", self._undo, methods=["POST"]),
                Route("/pictures/{name}", self._picture),
                Route("/admin", self._team),
                Route("/admin/invite", self._invite, methods=["POST"]),
                Route("/admin/withdraw", self._withdraw, methods=["POST"]),
                Route("/admin/votes.jsonl", self._votes),
                Mount("/static", StaticFiles(directory=str(_PACKAGE.joinpath("static")))),
            ],
            exception_handlers=dict.fromkeys((Problem, HTTPException, Exception), _error_page),
            middleware=[Middleware(FormGuard, token=token)],
            lifespan=lifespan,
        )

    async def _enter(self, request: Request) -> Response:
        token = request.path_params["invitation"]
        is_admin = self._is_admin(token)
        if not is_admin and self.desk.bearer(token) is None:
            raise Problem(401, ENDED)
        reply = RedirectResponse("/admin" if is_admin else "/", 303)
        reply.set_cookie(
            ADMIN_SESSION if is_admin else SESSION,
            token,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return reply

    async def _question(self, request: Request) -> Response:
        name = self.annotator(request)
        return HTMLResponse(question_page(self.desk, name, self.items, self.guide))

    async def _vote(self, request: Request) -> Response:
        name = self.annotator(request)
        sent = await _form(request, _Vote)
        try:
            self.desk.vote(name, sent.question, sent.label)
        except Stale:
            raise Problem(409, STALE) from None
        self._votes_since_start += 1
        task = BackgroundTask(self.rescore) if self._votes_since_start % _RESCORE == 0 else None
        return RedirectResponse("/", 303, background=task)

    async def _undo(self, request: Request) -> Response:
        self.desk.undo(self.annotator(request))
        return RedirectResponse("/", 303)

    async def _picture(self, request: Request) -> Response:
        self.annotator(request)
        file = self.items.picture(request.path_params["name"])
        if file is None:
            raise Problem(404, "no such picture")
        return FileResponse(file[0], media_type=file[1])

    async def _team(self, request: Request) -> Response:
        self.check_admin(request)
        return self.admin_page(request)

    async def _invite(self, request: Request) -> Response:
        self.check_admin(request)
        sent = await _form(request, _Name)
        name = " ".join(sent.name.split())
        if not _NAME.fullmatch(name):
            raise Problem(422, f"name: found {name[:80]!r}; expected 1 to 64 letters, digits, spaces and .@+-")
        self.desk.invite(name)
        return self.admin_page(request, name)

    async def _withdraw(self, request: Request) -> Response:
        self.check_admin(request)
        sent = await _form(request, _Name)
        if sent.name not in self.desk.store.people():
            raise Problem(404, f"name: found {sent.name[:80]!r}; expected an annotator with an invitation")
        self.desk.withdraw(sent.name)
        return RedirectResponse("/admin", 303)

    async def _votes(self, request: Request) -> Response:
        self.check_admin(request)
        lines = (
            json.dumps({"pair_id": pair, "annotator": who, "label": label}, ensure_ascii=False) + "\n"
            for pair, who, label in labels_of(self.desk.votes)
        )
        headers = {"Content-Disposition": 'attachment; filename="votes.jsonl"'}
        return Response("".join(lines), media_type="application/x-ndjson", headers=headers)


async def _form(request: Request, model: type[Form]) -> Form:
    """Return the submitted form. Raises `Problem` (422) for fields that do not match `model`."""
    try:
        return model.model_validate(dict(parse_qsl((await request.body()).decode("utf-8", "replace"))))
    except ValidationError as error:
        raise of_validation(error, model) from None


def serve(
    folder: str, dataset: str, settings: LabelSettings, host: str, port: int, say: Callable[[str], None] = print
) -> None:
    """Serve the store `folder` of the data set with the URI `dataset` until SIGTERM or Ctrl-C.

    `say` prints the address and a link for the admin. Raises `UserError`: an address other than loopback without a
    token, an address in use, a store that another process serves, a store of another data set, and errors of `Desk`.
    """
    token = token_of_environment(TOKEN)
    check_address(host, token is not None, TOKEN)
    with listening(host, port) as listener, storage.claimed(folder):
        desk = Desk(folder, settings, time.time)
        if desk.store.about["dataset"] != dataset:
            raise UserError(
                f"{folder}: the store is of {desk.store.about['dataset']}, found {dataset}; expected another --store"
            )
        guide = (
            storage.read_text(settings.guidelines)
            if settings.guidelines
            else _PACKAGE.joinpath("guidelines.md").read_text("utf-8")
        )
        labeling = Labeling(desk, Items(settings.items, desk.store.about["secret"]), guide)
        url = url_of(host, listener)
        say(f"labeling on {url} (pairs: {len(desk.pairs):,}, votes: {len(desk.votes):,})")
        say(f"admin: {url}/enter/{labeling.admin_token}")
        run_app(labeling.app(token), listener)


def _error_page(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        problem = Problem(error.status_code, error.detail, error.headers)
    else:
        problem = error if isinstance(error, Problem) else Problem(500, "the request failed")
    title = _TITLES.get(problem.detail, "Something is wrong")
    goes_on = problem.detail not in (NO_SESSION, ENDED)
    html = page("message.html", title=title, detail=problem.detail, goes_on=goes_on)
    return HTMLResponse(html, problem.status, problem.headers)
