"""Signing in: a token, kept in a cookie that no script can read."""

from __future__ import annotations

import hmac
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response

from dpu.errors import NotAllowed, NotLoggedIn
from dpud.web.calls import about, answered
from dpud.web.visit import Visit, form
from dpud.web.visitors import Visitor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from dpud.web.cookies import Cookies
    from dpud.web.live import Hub
    from dpud.web.pages import Pages
    from dpud.web.visitors import Doors, Entry


class SignIn:
    """Lets people in and out."""

    def __init__(self, pages: Pages, doors: Doors, cookies: Cookies, entry: Entry | None) -> None:
        self._pages = pages
        self._doors = doors
        self._entry = entry
        self._cookies = cookies
        self._hubs: dict[str, Hub] = {}

    def signed(self, page: Callable[[Visit], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return the page for whoever is signed in; others go to sign in."""

        async def shown(request: Request) -> Response:
            visitor = self._cookies.visitor(request)
            if visitor is None:
                return self._lead("/login")
            services = self._doors.services(visitor.token, visitor.project)
            return await page(Visit(request, visitor, services, self._pages, self._hubs))

        return shown

    async def login(self, request: Request) -> Response:
        """Ask for a token, and keep it in a cookie once the DPU knows it."""
        if request.method == "GET":
            return self._pages.show("login.html", visitor=None, refused="")
        fields = await form(request)
        token, project = fields.get("token", "").strip(), fields.get("project", "").strip() or "default"
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
            return self._lead("/login")
        self._entry = None
        return await self._let_in(entry.token, entry.project)

    async def logout(self, visit: Visit) -> Response:
        """Forget the visitor."""
        await visit.form()
        answer = visit.lead("/login")
        self._cookies.forget(answer)
        return answer

    async def _let_in(self, token: str, project: str) -> Response:
        """Return the way to the queue, with the cookies. Raises NotLoggedIn, NotAllowed."""
        known = await answered(about(self._doors.services(token, project)))
        answer = self._lead("/")
        visitor = Visitor(token=token, project=project, user=known.user, seed=secrets.token_urlsafe(16))
        self._cookies.keep(answer, visitor)
        return answer

    def _lead(self, path: str) -> Response:
        return RedirectResponse(self._pages.at + path, HTTPStatus.SEE_OTHER)
