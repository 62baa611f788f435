"""The pages: what is asked for, by whom, and what is answered."""

from __future__ import annotations

import hmac
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

import grpc
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import dpu
from dpu.errors import DpuError, NotAllowed, NotFound, NotLoggedIn, Unreachable, UsageError
from dpu.status import from_rpc
from dpu_api.v1 import scheduler_pb2 as pb
from dpud.web import logpage
from dpud.web.jobpage import job_page
from dpud.web.live import Hub
from dpud.web.pages import HERE, Pages
from dpud.web.queue import row, states
from dpud.web.visitors import Doors, Entry, Visitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dpud.web.visitors import Services

PAGE_SIZE = 50
DEADLINE_S = 20.0
#: A form of ours is short.
LONGEST_FORM = 16 << 10
COOKIE = "dpu-token"
PROJECT = "dpu-project"
#: Whose jobs are "mine": a filter. Who calls is said by the token alone.
USER = "dpu-user"
#: What a page may do: load what this server gives, and nothing that stands in the page itself.
HEADERS = {
    b"content-security-policy": b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    b"img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
#: How errors look in a browser.
STATUSES: tuple[tuple[type[DpuError], HTTPStatus], ...] = (
    (NotLoggedIn, HTTPStatus.UNAUTHORIZED),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (Unreachable, HTTPStatus.SERVICE_UNAVAILABLE),
)


class Site:
    """The pages of one DPU."""

    def __init__(self, name: str, doors: Doors, *, entry: Entry | None = None, secure: bool = False) -> None:
        self._doors = doors
        self._entry = entry
        self._secure = secure
        self._pages = Pages(dpu=name, version=dpu.__version__)
        self._hubs: dict[str, Hub] = {}

    def app(self) -> ASGIApp:
        """Return what a web server serves."""
        return _Headed(
            Starlette(
                routes=[
                    Route("/", self._signed(self.queue)),
                    Route("/live", self._signed(self.live)),
                    Route("/jobs/{job:int}", self._signed(self.job)),
                    Route("/jobs/{job:int}/log", self._signed(self.log)),
                    Route("/jobs/{job:int}/log/live", self._signed(self.log_live)),
                    Route("/jobs/{job:int}/log.txt", self._signed(self.log_text)),
                    Route("/jobs/{job:int}/cancel", self._signed(self.cancel), methods=["POST"]),
                    Route("/jobs/{job:int}/retry", self._signed(self.retry), methods=["POST"]),
                    Route("/login", self.login, methods=["GET", "POST"]),
                    Route("/enter", self.enter),
                    Route("/logout", self._signed(self.logout), methods=["POST"]),
                    Mount("/static", StaticFiles(directory=HERE / "static")),
                ],
                exception_handlers={DpuError: self._refused, grpc.RpcError: self._refused},
            )
        )

    async def queue(self, request: Request, visitor: Visitor) -> Response:
        """Show the jobs, newest first, as the query selects them."""
        asked = request.query_params
        services = self._services(visitor)
        user = visitor.user if asked.get("user") == "mine" else asked.get("user", "")
        found = pb.ListJobsRequest(
            user=user,
            states=states(asked.getlist("state")),
            sequence=asked.get("sequence", ""),
            page_size=PAGE_SIZE,
            page_token=asked.get("page", ""),
        )
        answer = await _call(services.scheduler.ListJobs(found, timeout=DEADLINE_S))
        about = await _call(services.scheduler.GetDpu(pb.GetDpuRequest(), timeout=DEADLINE_S))
        rows = [row(job) for job in answer.jobs]
        following = {key: value for key, value in asked.multi_items() if key != "page"}
        return self._pages.show(
            "queue.html",
            visitor=visitor,
            rows=rows,
            about=about,
            workers=await _workers(services),
            asked=asked,
            chosen=set(asked.getlist("state")),
            # Rows that come in live belong on the first page of everything.
            live=max((job.revision for job in answer.jobs), default=0) if not asked.get("page") else None,
            following=urlencode({**following, "page": answer.next_page_token}) if answer.next_page_token else "",
        )

    async def live(self, request: Request, visitor: Visitor) -> Response:
        """Send the row of each job that changes, as server-sent events."""
        after = _number(request.query_params.get("after"))
        services = self._services(visitor)
        # What is said of a project's jobs is for its members.
        if again := await _again(services.scheduler.GetDpu(pb.GetDpuRequest(), timeout=DEADLINE_S)):
            return _stream(again)
        hub = self._hubs.setdefault(visitor.project, Hub(lambda job: self._pages.event(row(job))))

        async def events() -> AsyncIterator[str]:
            async with hub.listening(services, after) as ear:
                yield "retry: 2000\n\n"
                while (event := await ear.get()) is not None:
                    yield event
                yield "event: reload\ndata:\n\n"

        return _stream(events())

    async def job(self, request: Request, visitor: Visitor) -> Response:
        """Show one job: its tasks, what it waits for, what went wrong first."""
        page = await job_page(self._services(visitor), request.path_params["job"])
        return self._pages.show("job.html", visitor=visitor, **{key: getattr(page, key) for key in page.__slots__})

    async def log(self, request: Request, visitor: Visitor) -> Response:
        """Show the last lines of a job's log, as the query selects them."""
        number = request.path_params["job"]
        asked = logpage.Asked.of(request.query_params)
        services = self._services(visitor)
        await _call(_found(services, number))
        page = await logpage.last(services, number, asked)
        return self._pages.show("log.html", visitor=visitor, number=number, asked=asked, page=page)

    async def log_live(self, request: Request, visitor: Visitor) -> Response:
        """Send a job's lines as they are written, from an offset on, as server-sent events."""
        asked = logpage.Asked.of(request.query_params)
        # A browser that lost its connection says where it was.
        offset = _number(request.headers.get("last-event-id") or request.query_params.get("offset"))
        services, number = self._services(visitor), request.path_params["job"]
        if again := await _again(_found(services, number)):
            return _stream(again)
        return _stream(logpage.events(services, number, asked, offset))

    async def log_text(self, request: Request, visitor: Visitor) -> Response:
        """Send a job's whole log as a file."""
        number = request.path_params["job"]
        services = self._services(visitor)
        await _call(_found(services, number))
        text = logpage.text(services, number)
        first = await anext(text, "")  # what is refused is refused before the file begins

        async def whole() -> AsyncIterator[str]:
            yield first
            async for piece in text:
                yield piece

        headers = {"content-disposition": f'attachment; filename="job-{number}.log"'}
        return StreamingResponse(whole(), media_type="text/plain; charset=utf-8", headers=headers)

    async def cancel(self, request: Request, visitor: Visitor) -> Response:
        """Cancel a job and go back to it."""
        number = request.path_params["job"]
        await _checked(request, visitor)
        wish = pb.CancelJobsRequest(job_ids=[number], reason="on the queue page")
        await _call(self._services(visitor).scheduler.CancelJobs(wish, timeout=DEADLINE_S))
        return RedirectResponse(f"/jobs/{number}", HTTPStatus.SEE_OTHER)

    async def retry(self, request: Request, visitor: Visitor) -> Response:
        """Do again what a job did, and go to the new one."""
        form = await _checked(request, visitor)
        wish = pb.RetryJobRequest(
            request_id=str(uuid.uuid4()), job_id=request.path_params["job"], only_failed="failed" in form
        )
        answer = await _call(self._services(visitor).scheduler.RetryJob(wish, timeout=DEADLINE_S))
        return RedirectResponse(f"/jobs/{answer.job.id}", HTTPStatus.SEE_OTHER)

    async def login(self, request: Request) -> Response:
        """Ask for a token, and keep it in a cookie once the DPU knows it."""
        if request.method == "GET":
            return self._pages.show("login.html", visitor=None, refused="")
        form = await _form(request)
        token, project = form.get("token", "").strip(), form.get("project", "").strip() or "default"
        try:
            return await self._let_in(token, project)
        except (NotLoggedIn, NotAllowed) as error:
            return self._pages.show(
                "login.html", HTTPStatus.UNAUTHORIZED, visitor=None, refused=error.message.partition(" (docs/")[0]
            )

    async def enter(self, request: Request) -> Response:
        """Let in whoever has the key that the page was started with: once."""
        entry = self._entry
        if entry is None or not hmac.compare_digest(request.query_params.get("key", ""), entry.key):
            return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        self._entry = None
        return await self._let_in(entry.token, entry.project)

    async def _let_in(self, token: str, project: str) -> Response:
        """Return the way to the queue, with the cookies. Raises NotLoggedIn, NotAllowed."""
        services = self._doors.services(token, project)
        about = await _call(services.scheduler.GetDpu(pb.GetDpuRequest(), timeout=DEADLINE_S))
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        for name, value in ((COOKIE, token), (PROJECT, project), (USER, about.user)):
            answer.set_cookie(name, value, httponly=True, samesite="strict", secure=self._secure, max_age=30 * 86400)
        return answer

    async def logout(self, request: Request, visitor: Visitor) -> Response:
        """Forget the visitor."""
        await _checked(request, visitor)
        answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        for name in (COOKIE, PROJECT, USER):
            answer.delete_cookie(name)
        return answer

    def _services(self, visitor: Visitor) -> Services:
        return self._doors.services(visitor.token, visitor.project)

    def _signed(
        self, page: Callable[[Request, Visitor], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the page for whoever is signed in; others go to sign in."""

        async def shown(request: Request) -> Response:
            token = request.cookies.get(COOKIE, "")
            if not token:
                return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
            project, user = request.cookies.get(PROJECT, "default"), request.cookies.get(USER, "")
            return await page(request, Visitor(token=token, project=project, user=user))

        return shown

    def _refused(self, _request: Request, error: Exception) -> Response:
        known = error if isinstance(error, DpuError) else from_rpc(error, "the DPU")
        if isinstance(known, NotLoggedIn):
            return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        status = next((status for kind, status in STATUSES if isinstance(known, kind)), HTTPStatus.BAD_GATEWAY)
        return self._pages.show("refused.html", status, visitor=None, phrase=status.phrase, message=known.message)


async def _call(call: Any) -> Any:
    """Return the answer of a call. Raises what it meant, as a DpuError."""
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc(error, "the DPU") from error


async def _workers(services: Services) -> list[pb.Worker]:
    """Return the workers, for operators; nobody else is told of them."""
    try:
        answer = await _call(services.scheduler.ListWorkers(pb.ListWorkersRequest(), timeout=DEADLINE_S))
    except NotAllowed:
        return []
    return sorted(answer.workers, key=lambda worker: worker.name)


def _found(services: Services, number: int) -> Any:
    """Return a call for a job. The log of one that is not there, or another project's, would look empty."""
    return services.scheduler.GetJob(pb.GetJobRequest(job_id=number), timeout=DEADLINE_S)


async def _again(call: Any) -> AsyncIterator[str] | None:
    """Return None once a call is answered, else what makes a browser ask again. Raises DpuError for what stays so.

    A browser never asks again for a stream that was refused by a status, or that led to another page.
    """
    try:
        await _call(call)
    except Unreachable:
        return _said("retry: 2000\n\n")
    except NotLoggedIn:
        return _said("event: reload\ndata:\n\n")
    return None


async def _said(text: str) -> AsyncIterator[str]:
    yield text


def _stream(events: AsyncIterator[str]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream")


def _number(text: str | None) -> int:
    """Return a number of a query. Raises UsageError."""
    try:
        return int(text or 0)
    except ValueError as error:
        raise UsageError(f"{text!r} must be a whole number") from error


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form. Raises UsageError for one that is none of ours."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise UsageError("the form is too long")
    try:
        return {name: values[-1] for name, values in parse_qs(body.decode(), strict_parsing=bool(body)).items()}
    except ValueError as error:
        raise UsageError(f"the form cannot be read: {error}") from error


async def _checked(request: Request, visitor: Visitor) -> dict[str, str]:
    """Return the fields of a form that came from a page of ours. Raises NotAllowed."""
    form = await _form(request)
    if not visitor.sent(form.get("stamp", "")):
        raise NotAllowed("this form is not from a page of the DPU, or from before you signed in: load the page again")
    return form


class _Headed:
    """Puts HEADERS on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in HEADERS.items() if name not in own),
                ]
            await send(message)

        await self._app(scope, receive, headed)
