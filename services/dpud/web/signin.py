"""Signing in: by a token or at an OpenID provider, kept in cookies that no script can read; or as a visitor."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from starlette.responses import RedirectResponse, Response

from dpu.errors import NotAllowed, NotLoggedIn, UsageError
from dpu.oidc import Authorization, Provider, Tokens
from dpud.web.calls import about, answered
from dpud.web.provider import Desk
from dpud.web.visit import Visit, form
from dpud.web.visitors import Visitor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from dpud.web.cookies import Begun, Cookies
    from dpud.web.live import Hub
    from dpud.web.pages import Pages
    from dpud.web.places import Place
    from dpud.web.visitors import Doors, Entry

#: A browser keeps no cookie that is longer, and does not say so.
LONGEST_COOKIE = 3800


@dataclass(frozen=True, slots=True)
class Ways:
    """How people come in, besides by a token that they type."""

    #: Where a browser finds this server, 'https://queue.dpu.example'.
    url: str
    entry: Entry | None = None
    desk: Desk | None = None
    #: In whose name those look who have not signed in; None: they have to.
    guest: Visitor | None = None

    @classmethod
    def of(cls, place: Place, url: str, entry: Entry | None) -> Ways:
        """Return how people come in to the pages of a DPU, at `url`."""
        desk = Desk(place.oidc_issuer, Provider(place.oidc_issuer, place.oidc_client)) if place.oidc_issuer else None
        looks = bool(place.visitors_token)
        guest = Visitor(place.visitors_token, place.visitors_project, user="", seed="") if looks else None
        return cls(url, entry, desk, guest)


class SignIn:
    """Lets people in and out."""

    def __init__(self, pages: Pages, doors: Doors, cookies: Cookies, ways: Ways) -> None:
        self._pages = pages
        self._doors = doors
        self._cookies = cookies
        self._ways = ways
        self._entry = ways.entry
        self._hubs: dict[str, Hub] = {}

    def signed(self, page: Callable[[Visit], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return the page for whoever is signed in, or may look without; others go to sign in."""

        async def shown(request: Request) -> Response:
            kept = self._cookies.visitor(request) or self._ways.guest
            if kept is None:
                return self.asked(request)
            visitor = await self._fresh(kept)
            services = self._doors.services(visitor.token, visitor.project)
            answer = await page(Visit(request, visitor, services, self._pages, self._hubs))
            # A page that signs out has said what a browser is to keep.
            if visitor is not kept and "set-cookie" not in answer.headers:
                self._cookies.keep(answer, visitor)
            return answer

        return shown

    def asked(self, request: Request) -> Response:
        """Return the way to sign in, and from there back to the page that was asked for."""
        path = request.url.path.removeprefix(self._pages.at)
        to = f"{path}?{request.url.query}" if request.url.query else path
        known = request.method == "GET" and to != "/"
        return self._lead("/login" + (f"?{urlencode({'to': to})}" if known else ""))

    def unknown(self, request: Request) -> Response:
        """Return the same for somebody whose token is not known any more, and is forgotten."""
        answer = self.asked(request)
        self._cookies.forget(answer)
        return answer

    async def login(self, request: Request) -> Response:
        """Ask for a token, and keep it in a cookie once the DPU knows it."""
        if request.method == "GET":
            return self._ask(request.query_params.get("to", ""))
        fields = await form(request)
        token, project = fields.get("token", "").strip(), fields.get("project", "").strip() or "default"
        try:
            return await self._let_in(token, project, to=fields.get("to", ""))
        except (NotLoggedIn, NotAllowed) as error:
            return self._ask(fields.get("to", ""), error)

    async def begin(self, request: Request) -> Response:
        """Send a browser to the provider."""
        desk = self._ways.desk
        if desk is None:
            return self._lead("/login")
        fields = await form(request)
        begun = Authorization.begin(f"{self._ways.url}{self._pages.at}/login/return")
        url = await desk.authorization(begun)
        # A page that leads on, and no redirect: what follows a form may only lead to this server.
        answer = self._pages.show("onward.html", visitor=None, url=url, name=desk.name)
        self._cookies.begin(answer, begun, fields.get("project", "").strip() or "default", fields.get("to", ""))
        return answer

    async def back(self, request: Request) -> Response:
        """Let in whoever comes back from the provider."""
        begun = self._cookies.begun(request)
        try:
            answer = await self._returned(begun, request.query_params)
        except (NotLoggedIn, NotAllowed) as error:
            answer = self._ask(begun.to if begun else "", error)
        self._cookies.ended(answer)
        return answer

    async def enter(self, request: Request) -> Response:
        """Let in whoever has the key that the page was started with: once."""
        entry = self._entry
        if entry is None or not _same(request.query_params.get("key", ""), entry.key):
            return self._lead("/login")
        self._entry = None
        return await self._let_in(entry.token, entry.project)

    async def logout(self, visit: Visit) -> Response:
        """Forget the visitor."""
        await visit.form()
        if self._ways.desk is not None and visit.visitor.refresh:
            await self._ways.desk.end(_tokens(visit.visitor))
        answer = self._lead("/login")
        self._cookies.forget(answer)
        return answer

    async def _returned(self, begun: Begun | None, asked: QueryParams) -> Response:
        """Return the way in for what a browser came back with. Raises NotLoggedIn, NotAllowed, Unreachable."""
        desk = self._ways.desk
        if desk is None or begun is None or not _same(asked.get("state", ""), begun.authorization.state):
            raise NotLoggedIn("this sign-in was not begun here, or too long ago: begin again")
        if "code" not in asked:
            said = asked.get("error_description") or asked.get("error", "nothing")
            raise NotLoggedIn(f"{desk.name} refuses the sign-in: {said}")
        tokens = await desk.exchange(begun.authorization, asked["code"])
        return await self._let_in(tokens.identity, begun.project, refresh=tokens.refresh, to=begun.to)

    async def _fresh(self, visitor: Visitor) -> Visitor:
        """Return a visitor whose token is valid, renewed where it was not. Raises NotLoggedIn, Unreachable."""
        if self._ways.desk is None or not visitor.refresh:
            return visitor
        kept = _tokens(visitor)
        tokens = await self._ways.desk.fresh(kept)
        return visitor if tokens is kept else replace(visitor, token=tokens.identity, refresh=tokens.refresh)

    async def _let_in(self, token: str, project: str, *, refresh: str = "", to: str = "") -> Response:
        """Return the way to the page that was asked for, with the cookies. Raises NotLoggedIn, NotAllowed."""
        if max(len(token), len(refresh)) > LONGEST_COOKIE:
            raise UsageError(f"the token is longer than the {LONGEST_COOKIE} letters that a browser keeps")
        known = await answered(about(self._doors.services(token, project)))
        answer = self._lead(to if _is_ours(to) else "/")
        seed = secrets.token_urlsafe(16)
        self._cookies.keep(answer, Visitor(token, project, known.user, seed, refresh))
        return answer

    def _ask(self, to: str, error: NotLoggedIn | NotAllowed | None = None) -> Response:
        return self._pages.show(
            "login.html",
            HTTPStatus.UNAUTHORIZED if error else HTTPStatus.OK,
            visitor=None,
            to=to if _is_ours(to) else "",
            provider=self._ways.desk.name if self._ways.desk else "",
            refused=error.message.partition(" (docs/")[0] if error else "",
        )

    def _lead(self, path: str) -> Response:
        return RedirectResponse(self._pages.at + path, HTTPStatus.SEE_OTHER)


def _tokens(visitor: Visitor) -> Tokens:
    return Tokens(identity=visitor.token, refresh=visitor.refresh)


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


def _is_ours(to: str) -> bool:
    """Return whether a way leads to a page of ours: a path, and neither '//elsewhere' nor what browsers take for it."""
    parts = urlsplit(to)
    return to.isprintable() and to.startswith("/") and not to.startswith("//") and "\\" not in to and not parts.netloc
