"""The pages put together: what is asked for, by whom, and what is answered."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import grpc
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import dpu
from dpu.errors import DpuError, NotAllowed, NotFound, NotLoggedIn, Unreachable, UsageError
from dpu.status import from_rpc
from dpud.web import jobpage, logpage, queuepage
from dpud.web.pages import HERE, Pages
from dpud.web.policy import Headed
from dpud.web.signin import SignIn

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from dpud.web.visitors import Doors, Entry

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
        self._pages = Pages("", dpu=name, version=dpu.__version__)
        self._signin = SignIn(self._pages, doors, entry=entry, secure=secure)

    def app(self) -> ASGIApp:
        """Return what a web server serves."""
        signed, signin = self._signin.signed, self._signin
        return Headed(
            Starlette(
                routes=[
                    *(
                        Route(path, signed(page), methods=[method])
                        for method, path, page in (*queuepage.ROUTES, *jobpage.ROUTES, *logpage.ROUTES)
                    ),
                    Route("/login", signin.login, methods=["GET", "POST"]),
                    Route("/enter", signin.enter),
                    Route("/logout", signed(signin.logout), methods=["POST"]),
                    Mount("/static", StaticFiles(directory=HERE / "static")),
                ],
                exception_handlers={DpuError: self._refused, grpc.RpcError: self._refused},
            )
        )

    def _refused(self, _request: Request, error: Exception) -> Response:
        known = error if isinstance(error, DpuError) else from_rpc(error, "the DPU")
        if isinstance(known, NotLoggedIn):
            return RedirectResponse(f"{self._pages.at}/login", HTTPStatus.SEE_OTHER)
        status = next((status for kind, status in STATUSES if isinstance(known, kind)), HTTPStatus.BAD_GATEWAY)
        return self._pages.show("refused.html", status, visitor=None, phrase=status.phrase, message=known.message)
