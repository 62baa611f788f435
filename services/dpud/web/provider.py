"""Signing in at an OpenID provider, and staying signed in: its calls, none of which stops the pages."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dpu.errors import DpuError

if TYPE_CHECKING:
    from dpu.oidc import Authorization, Provider, Tokens

#: Renewals whose outcome is remembered: pages that a browser asks for at the same time come with the same old cookie.
REMEMBERED = 1000


class Desk:
    """Where people sign in at a provider."""

    def __init__(self, issuer: str, provider: Provider) -> None:
        self.name = urlsplit(issuer).hostname or issuer
        self._provider = provider
        self._renewals: OrderedDict[str, asyncio.Task[Tokens]] = OrderedDict()

    async def authorization(self, begun: Authorization) -> str:
        """Return where a browser is sent. Raises Unreachable, UsageError."""
        return await asyncio.to_thread(self._provider.authorization, begun)

    async def exchange(self, begun: Authorization, code: str) -> Tokens:
        """Return the tokens for the code that a browser came back with. Raises NotLoggedIn, Unreachable."""
        return await asyncio.to_thread(self._provider.exchange, begun, code)

    async def fresh(self, tokens: Tokens) -> Tokens:
        """Return tokens that are valid for a while. Raises NotLoggedIn where there are none any more, Unreachable.

        A provider may take a token for renewal once only: it is used once, and all who come with it get what it gave.
        """
        while not tokens.is_fresh:
            known = self._renewals.get(tokens.refresh)
            if known is None:
                return await self._renew(tokens)
            renewed = await asyncio.shield(known)
            if renewed.refresh == tokens.refresh and not renewed.is_fresh:
                return await self._renew(renewed)
            tokens = renewed
        return tokens

    async def end(self, tokens: Tokens) -> None:
        """Tell the provider that it is over, where it wants to know and can be reached."""
        with suppress(DpuError):
            await asyncio.to_thread(self._provider.revoke, tokens)

    async def _renew(self, tokens: Tokens) -> Tokens:
        task = asyncio.create_task(asyncio.to_thread(self._provider.renew, tokens))
        self._renewals[tokens.refresh] = task
        while len(self._renewals) > REMEMBERED:
            self._renewals.popitem(last=False)
        try:
            # Whoever asked may go away meanwhile: others wait for the same.
            return await asyncio.shield(task)
        except DpuError:
            self._renewals.pop(tokens.refresh, None)
            raise
