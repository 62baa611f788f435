"""Somebody who looks at the pages without a real browser: asks, follows, keeps cookies."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from http.cookiejar import Cookie, CookieJar
from typing import Any


@dataclass
class Visiting:
    """One visitor of the pages at an address."""

    address: str
    jar: CookieJar = field(default_factory=CookieJar)

    def __post_init__(self) -> None:
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    async def get(self, path: str = "/") -> tuple[int, str, Any]:
        """Return status, page and answer."""
        return await asyncio.to_thread(self._ask, path, None)

    async def post(self, path: str, **fields: str) -> tuple[int, str, Any]:
        """Send a form; return status, page and answer."""
        return await asyncio.to_thread(self._ask, path, urllib.parse.urlencode(fields).encode())

    async def sign_in(self, token: str, project: str = "KIDS") -> tuple[int, str, Any]:
        """Sign in with a token."""
        return await self.post("login", token=token, project=project)

    def events(self, path: str) -> Any:
        """Return an answer that is read as it comes; waits for it."""
        return self.opener.open(self.address + path.lstrip("/"), timeout=60)

    def read(self, path: str) -> tuple[Any, bytes]:
        """Return the headers and the content of what is no page; waits for it."""
        with self.events(path) as answer:
            return answer.headers, answer.read()

    def cookie(self, name: str) -> str:
        """Return what a cookie holds."""
        return urllib.parse.unquote(str(self._cookie(name).value))

    def set_cookie(self, name: str, value: str) -> None:
        """Change what a cookie holds."""
        self._cookie(name).value = value

    @staticmethod
    def stamp(page: str) -> str:
        """Return what the forms of a page carry."""
        found = re.search(r'name="stamp" value="(\w+)"', page)
        assert found, page
        return found[1]

    def _cookie(self, name: str) -> Cookie:
        return next(cookie for cookie in self.jar if cookie.name.endswith(f"-{name}"))

    def _ask(self, path: str, body: bytes | None) -> tuple[int, str, Any]:
        try:
            with self.opener.open(self.address + path.lstrip("/"), body, timeout=60) as answer:
                return answer.status, answer.read().decode(), answer
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error
