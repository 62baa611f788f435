"""What a browser keeps of somebody who is signed in: no script of a page can read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from dpu.oidc import Authorization
from dpud.web.visitors import Visitor

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: What each is kept for, in seconds; who calls is said by the token alone, which may end sooner.
KEPT_S = 30 * 86400
#: Of a sign-in at a provider.
BEGUN_S = 600
#: Sent where somebody follows a link from elsewhere, as a provider's back to us, but with no form of elsewhere.
SAME_SITE: Literal["lax"] = "lax"


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in at a provider that is under way: in which project, and which page was asked for."""

    authorization: Authorization
    project: str
    to: str


class Cookies:
    """The cookies of one DPU's pages."""

    def __init__(self, dpu: str, *, secure: bool) -> None:
        self._secure = secure
        # With the prefix a browser takes it from this host alone, over TLS: no neighbour of its domain can set it.
        self._prefix = f"{'__Host-' if secure else ''}dpu-{dpu}-"

    def visitor(self, request: Request) -> Visitor | None:
        """Return who is signed in, or None."""
        kept = {field.name: self._read(request, field.name) for field in fields(Visitor)}
        return Visitor(**kept) if kept["token"] else None

    def keep(self, answer: Response, visitor: Visitor) -> None:
        """Have a browser remember who signed in."""
        for name, value in asdict(visitor).items():
            if value:
                self._write(answer, name, value, KEPT_S)
            else:
                self._delete(answer, name)

    def forget(self, answer: Response) -> None:
        """Have a browser forget who was signed in."""
        for field in fields(Visitor):
            self._delete(answer, field.name)

    def begin(self, answer: Response, authorization: Authorization, project: str, to: str) -> None:
        """Have a browser remember a sign-in that it goes elsewhere for."""
        kept = {**asdict(authorization), "project": project, "to": to}
        self._write(answer, "begun", urlencode(kept), BEGUN_S)

    def begun(self, request: Request) -> Begun | None:
        """Return the sign-in that a browser went elsewhere for, or None."""
        kept = dict(parse_qsl(self._read(request, "begun"), keep_blank_values=True))
        try:
            project, to = kept.pop("project"), kept.pop("to")
            return Begun(Authorization(**kept), project, to)
        except (KeyError, TypeError):
            return None

    def ended(self, answer: Response) -> None:
        """Have a browser forget the sign-in that it went elsewhere for."""
        self._delete(answer, "begun")

    def _read(self, request: Request, name: str) -> str:
        return unquote(request.cookies.get(self._prefix + name, ""))

    def _write(self, answer: Response, name: str, value: str, seconds: int) -> None:
        # Quoted: the name of a user or a project may be in any script.
        answer.set_cookie(
            self._prefix + name,
            quote(value),
            httponly=True,
            samesite=SAME_SITE,
            secure=self._secure,
            max_age=seconds,
        )

    def _delete(self, answer: Response, name: str) -> None:
        answer.delete_cookie(self._prefix + name, httponly=True, samesite=SAME_SITE, secure=self._secure)
