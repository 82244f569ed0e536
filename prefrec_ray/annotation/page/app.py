"""HTTP routes of the labeling page: pages, forms, cookies, and permissions."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from shlex import quote
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from prefrec_ray.annotation.page.desk import Desk, Stale, exchanged
from prefrec_ray.annotation.page.guard import FormGuard
from prefrec_ray.annotation.page.invitations import ADMIN, Signer
from prefrec_ray.annotation.page.items import Items
from prefrec_ray.annotation.page.pages import guidelines, page
from prefrec_ray.annotation.page.summary import summary
from prefrec_ray.annotation.page.timeline import sides, signals_of
from prefrec_ray.web.problems import Problem, of_validation

SESSION, ADMIN_SESSION = "prefrec_label", "prefrec_label_admin"
#: Hours until the admin's link expires, which the command prints.
ADMIN_HOURS = 12
_NAME = re.compile(r"[^\W_][\w .@+-]{0,63}")


class _Form(BaseModel):
    form: Annotated[str, Field(max_length=128)] = ""


class _Answer(_Form):
    question: Annotated[str, Field(max_length=64)]
    label: Literal["first", "second", "tie", "skip"]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class _Invite(_Form):
    name: Annotated[str, Field(max_length=200)]


class Labeling:
    """Shared state of the routes: the desk, the signer, the items, the guidelines."""

    def __init__(self, desk: Desk, signer: Signer, items: Items, guide: str) -> None:
        self.desk, self.signer, self.items = desk, signer, items
        self.guide = guidelines(guide)
        self.signals = signals_of(desk.store.about["signals"])
        self._since = 0
        self._scoring: asyncio.Task[None] | None = None

    def annotator(self, request: Request) -> str:
        """Return the annotator.

        Raises `Problem` (401) without a session, or after the invitation expired or was withdrawn.
        """
        session = self.signer.who(request.cookies.get(SESSION))
        if session is None or not self.holds(*session):
            raise Problem(401, "no_session")
        request.state.trusted = True
        return session[0]

    def holds(self, name: str, expires: float) -> bool:
        """Return whether an invitation is the last one of this annotator and was not withdrawn."""
        return self.desk.store.people().get(name) == expires

    def link(self, request: Request, name: str, expires: float) -> str:
        """Return the link of an invitation."""
        return f"{str(request.base_url).rstrip('/')}/enter/{self.signer.invitation(name, expires)}"

    def check_admin(self, request: Request) -> None:
        """Raise `Problem` (401) for anyone except the admin."""
        session = self.signer.who(request.cookies.get(ADMIN_SESSION))
        if not request.state.has_token and (session is None or session[0] != ADMIN):
            raise Problem(401, "no_session")
        request.state.trusted = True

    async def form(self, request: Request, model: type[Any], cookie: str) -> Any:
        """Return the submitted form. Raises `Problem`: another form, or a form from another site (403).

        A request with the token needs no form token, because another site cannot make a browser send it.
        """
        try:
            sent = model.model_validate(dict(parse_qsl((await request.body()).decode("utf-8", "replace"))))
        except ValidationError as error:
            raise of_validation(error, model) from None
        session = request.cookies.get(cookie, "")
        if not request.state.has_token and not self.signer.same(sent.form, self.signer.form_token(session)):
            raise Problem(403, "the form is not of this session; load the page again")
        return sent

    def question_page(self, name: str, cookie: str) -> str:
        """Return the page of an annotator's question."""
        question = self.desk.question(name)
        last = self.desk.store.last_vote(name)
        values = {
            "form": self.signer.form_token(cookie),
            "guide": self.guide,
            "previous": last and exchanged(last.label, last.flipped),
            "answered": self.desk.board.count(name),
            "progress": self.desk.board.progress,
            "mode": self.desk.settings.mode,
        }
        if question is None:
            return page("done.html", **values)
        drawn = sides(question.segments, self.signals, self.items)
        return page("question.html", sides=drawn, question=question.lease.token, **values)

    def rescore(self) -> None:
        """Score all votes again in a thread after enough new ones; never twice at a time."""
        self._since += 1
        if self._since >= self.desk.settings.rescore and (self._scoring is None or self._scoring.done()):
            self._since = 0
            self._scoring = asyncio.create_task(self._rescore())

    async def _rescore(self) -> None:
        self.desk.take(await asyncio.to_thread(self.desk.scorer.score, self.desk.judged()))


def make_app(labeling: Labeling, token: str | None) -> FastAPI:
    """Return the app; with a `token` it accepts any host, and requests with the token are the admin's."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        labeling.desk.store.close()

    app = FastAPI(title="prefrec label", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _add_pages(app, labeling)
    _add_admin(app, labeling)
    app.mount("/static", StaticFiles(directory=str(files("prefrec_ray.annotation.page").joinpath("static"))))
    app.add_exception_handler(Problem, _of_problem)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _of_http)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, lambda *_: _of_problem(None, Problem(500, "the request failed")))
    app.add_middleware(FormGuard, token=token)
    return app


def _add_pages(app: FastAPI, labeling: Labeling) -> None:
    @app.get("/enter/{invitation}")
    async def enter(request: Request, invitation: str) -> Response:
        invited = labeling.signer.invited(invitation)
        if invited is None or (invited[0] != ADMIN and not labeling.holds(*invited)):
            raise Problem(401, "ended")
        name, expires = invited
        answer = RedirectResponse("/admin" if name == ADMIN else "/", 303)
        answer.set_cookie(
            ADMIN_SESSION if name == ADMIN else SESSION,
            labeling.signer.session(name, expires),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    @app.get("/")
    async def question(request: Request) -> Response:
        name = labeling.annotator(request)
        return HTMLResponse(labeling.question_page(name, request.cookies[SESSION]))

    @app.post("/answer")
    async def answer(request: Request) -> Response:
        name = labeling.annotator(request)
        sent = await labeling.form(request, _Answer, SESSION)
        try:
            labeling.desk.answer(name, sent.question, sent.label, sent.seconds)
        except Stale:
            raise Problem(409, "stale") from None
        labeling.rescore()
        return RedirectResponse("/", 303)

    @app.post("/undo")
    async def undo(request: Request) -> Response:
        name = labeling.annotator(request)
        await labeling.form(request, _Form, SESSION)
        labeling.desk.undo(name)
        return RedirectResponse("/", 303)

    @app.get("/pictures/{name}")
    async def picture(request: Request, name: str) -> Response:
        labeling.annotator(request)
        file = labeling.items.picture(name)
        if file is None:
            raise Problem(404, "no such picture")
        return FileResponse(file[0], media_type=file[1])

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response('{"status":"ok"}', media_type="application/json")


def _add_admin(app: FastAPI, labeling: Labeling) -> None:
    def shown(request: Request, invited: str = "") -> Response:
        now, people = labeling.desk.now(), labeling.desk.store.people()
        links = {name: labeling.link(request, name, expires) for name, expires in people.items() if expires > now}
        return HTMLResponse(
            page(
                "admin.html",
                team=summary(labeling.desk),
                links=links,
                invited=invited,
                people=people,
                audit=labeling.desk.store.audit(),
                mode=labeling.desk.settings.mode,
                form=labeling.signer.form_token(request.cookies.get(ADMIN_SESSION, "")),
                then=train_command(labeling.desk.store.file.rpartition("/")[0], labeling.desk.store.about["dataset"]),
            )
        )

    @app.get("/admin")
    async def admin(request: Request) -> Response:
        labeling.check_admin(request)
        return shown(request)

    @app.post("/admin/invite")
    async def invite(request: Request) -> Response:
        labeling.check_admin(request)
        sent = await labeling.form(request, _Invite, ADMIN_SESSION)
        name = " ".join(sent.name.split())
        if not _NAME.fullmatch(name):
            raise Problem(422, f"name: found {name[:80]!r}; expected 1 to 64 letters, digits, spaces and .@+-")
        labeling.desk.invite(name)
        return shown(request, name)

    @app.post("/admin/withdraw")
    async def withdraw(request: Request) -> Response:
        labeling.check_admin(request)
        sent = await labeling.form(request, _Invite, ADMIN_SESSION)
        if sent.name not in labeling.desk.store.people():
            raise Problem(404, f"name: found {sent.name[:80]!r}; expected an annotator with an invitation")
        labeling.desk.withdraw(sent.name)
        return RedirectResponse("/admin", 303)

    @app.get("/admin/votes.jsonl")
    async def votes(request: Request) -> Response:
        labeling.check_admin(request)
        lines = (
            json.dumps({"pair_id": pair, "annotator": who, "label": label}, ensure_ascii=False) + "\n"
            for pair, who, label in labeling.desk.store.labels()
        )
        headers = {"Content-Disposition": 'attachment; filename="votes.jsonl"'}
        return Response("".join(lines), media_type="application/x-ndjson", headers=headers)


def train_command(store: str, dataset: str) -> str:
    """Return the command that trains on the votes, quoted for a shell: brackets and spaces are special there."""
    return f"prefrec train CONFIG {quote(f'teachers=[{store}]')} --dataset {quote(dataset)}"


#: Titles of problems with their own page, by detail.
_PAGES = {"no_session": "no_session_title", "ended": "ended_title", "stale": "stale_title"}


def _of_problem(_: Any, problem: Problem) -> Response:
    title = _PAGES.get(problem.detail, "problem")
    return HTMLResponse(page("message.html", title=title, detail=problem.detail), problem.status)


async def _of_http(_: Request, error: HTTPException) -> Response:
    answer = _of_problem(None, Problem(error.status_code, str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer
