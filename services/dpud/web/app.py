"""The pages put together: what is asked for, by whom, and what is answered."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import grpc
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import dpu
from dpu.errors import DpuError, NotAllowed, NotFound, NotLoggedIn, Unreachable, UsageError
from dpu.status import from_rpc
from dpud.web import chosenpage, codepage, framepage, jobpage, logpage, queuepage, statisticspage
from dpud.web.cookies import Cookies
from dpud.web.pages import HERE, Pages
from dpud.web.policy import Headed
from dpud.web.signin import SignIn, Ways

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from dpud.web.places import Place
    from dpud.web.visitors import Doors, Entry

PAGES = (queuepage, chosenpage, jobpage, codepage, framepage, logpage, statisticspage)
ROUTES = tuple(route for page in PAGES for route in page.ROUTES)
#: How errors look in a browser.
STATUSES: tuple[tuple[type[DpuError], HTTPStatus], ...] = (
    (NotLoggedIn, HTTPStatus.UNAUTHORIZED),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (Unreachable, HTTPStatus.SERVICE_UNAVAILABLE),
)


def app(places: Sequence[Place], doors: Sequence[Doors], *, url: str, entry: Entry | None = None) -> ASGIApp:
    """Return what a web server serves: the pages of one DPU, or of several, each under its name.

    `url` is where a browser finds it; `entry` lets in to the first.
    """
    several = tuple(place.name for place in places) if len(places) > 1 else ()
    sites = []
    for place, door in zip(places, doors, strict=True):
        at = f"/{place.name}" if several else ""
        pages = Pages(at, dpu=place.name, dpus=several, version=dpu.__version__)
        cookies = Cookies(place.name, secure=url.startswith("https:"))
        sites.append(Site(pages, SignIn(pages, door, cookies, Ways.of(place, url, entry))))

    async def first(_request: Request) -> Response:
        return RedirectResponse(f"{sites[0].at}/", HTTPStatus.SEE_OTHER)

    return Headed(
        Starlette(
            routes=[
                Mount("/static", StaticFiles(directory=HERE / "static")),
                *([Route("/", first)] if several else []),
                *(Mount(site.at, app=site.app()) for site in sites),
            ]
        )
    )


class Site:
    """The pages of one DPU."""

    def __init__(self, pages: Pages, signin: SignIn) -> None:
        self._pages = pages
        self._signin = signin

    @property
    def at(self) -> str:
        """Where they are on this server."""
        return self._pages.at

    def app(self) -> ASGIApp:
        """Return what answers for them."""
        signin = self._signin
        return Starlette(
            routes=[
                *(Route(path, signin.signed(page), methods=[method]) for method, path, page in ROUTES),
                Route("/login", signin.login, methods=["GET", "POST"]),
                Route("/login/begin", signin.begin, methods=["POST"]),
                Route("/login/return", signin.back),
                Route("/enter", signin.enter),
                Route("/logout", signin.signed(signin.logout), methods=["POST"]),
            ],
            exception_handlers={
                DpuError: self._refused,
                grpc.RpcError: self._refused,
                HTTPException: self._nowhere,
            },
        )

    def _refused(self, request: Request, error: Exception) -> Response:
        known = error if isinstance(error, DpuError) else from_rpc(error, "the DPU")
        if isinstance(known, NotLoggedIn):
            return self._signin.unknown(request)
        status = next((status for kind, status in STATUSES if isinstance(known, kind)), HTTPStatus.BAD_GATEWAY)
        return self._show(status, known.message)

    def _nowhere(self, _request: Request, error: Exception) -> Response:
        status = HTTPStatus(getattr(error, "status_code", HTTPStatus.NOT_FOUND))
        return self._show(status, "there is no such page" if status == HTTPStatus.NOT_FOUND else status.description)

    def _show(self, status: HTTPStatus, message: str) -> Response:
        return self._pages.show("refused.html", status, visitor=None, phrase=status.phrase, message=message)
