"""One request of somebody who is signed in: what a page is made from."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs

from starlette.responses import RedirectResponse, Response

from dpu.errors import NotAllowed, NotFound, UsageError
from dpu.jobids import LARGEST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from dpud.web.live import Hub
    from dpud.web.pages import Pages
    from dpud.web.visitors import Services, Visitor

#: A form of ours is short.
LONGEST_FORM = 16 << 10


@dataclass(frozen=True, slots=True)
class Visit:
    """What is asked for, by whom, and whom to ask in their name."""

    request: Request
    visitor: Visitor
    services: Services
    pages: Pages
    #: What is watched, by project.
    hubs: dict[str, Hub]

    @property
    def asked(self) -> QueryParams:
        """What the address says after its '?'."""
        return self.request.query_params

    @property
    def job(self) -> int:
        """The job that the address names. Raises NotFound for a number that no job can have."""
        job: int = self.request.path_params["job"]
        if job > LARGEST:
            raise NotFound(f"there is no job {job}")
        return job

    def number(self, name: str) -> int:
        """Return a number of the query, 0 where there is none. Raises UsageError."""
        return number(self.asked.get(name))

    def show(self, template: str, **values: Any) -> Response:
        """Return a page."""
        return self.pages.show(template, visitor=self.visitor, **values)

    def lead(self, path: str) -> Response:
        """Return the way to another page."""
        return RedirectResponse(self.pages.at + path, HTTPStatus.SEE_OTHER)

    async def form(self) -> dict[str, str]:
        """Return the fields of a form that came from a page of ours. Raises NotAllowed."""
        fields = await form(self.request)
        if not self.visitor.sent(fields.get("stamp", "")):
            raise NotAllowed(
                "this form is not from a page of the DPU, or from before you signed in: load the page again"
            )
        return fields


#: A method, a path, and what answers: what a module of a page offers.
Route: TypeAlias = "tuple[str, str, Callable[[Visit], Awaitable[Response]]]"


def number(text: str | None) -> int:
    """Return a number of a query, 0 for none. Raises UsageError."""
    try:
        found = int(text or 0)
    except ValueError as error:
        raise UsageError(f"{text!r} must be a whole number") from error
    if abs(found) > LARGEST:
        raise UsageError(f"{text!r} must be a whole number of at most {LARGEST}")
    return found


async def form(request: Request) -> dict[str, str]:
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
