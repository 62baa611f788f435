"""Who calls, by the word of an OpenID provider: identity tokens, verified with the keys that it publishes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import urllib.request
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
import structlog

from dpu.errors import NotLoggedIn, Unreachable
from dpud.hosting.caller import Identity, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger(__name__)

#: Signatures by a key that only the provider has. A symmetric one would be a secret shared with every client.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
#: A provider makes people: workers and services have tokens of the DPU's own.
ROLES = {"user": Role.USER, "operator": Role.OPERATOR}
LEEWAY_S = 30
DEADLINE_S = 10.0
#: A token signed with an unknown key makes us ask for new keys, so often at most.
PAUSE_S = 10.0
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which provider is believed, and which claims of its tokens say what."""

    issuer: str
    audience: str
    #: The claim that names the user; those that list projects and roles, '' where everybody has `default_*`.
    user: str = "preferred_username"
    projects: str = ""
    roles: str = ""
    default_projects: tuple[str, ...] = ("default",)
    default_roles: tuple[str, ...] = ("user",)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Trust:
        """Return the trust of an [oidc] table. Raises ValueError and TypeError."""
        lists = {key: tuple(row[key]) for key in ("default_projects", "default_roles") if key in row}
        trust = cls(**{**row, **lists})
        if not trust.issuer.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ValueError(f"issuer = {trust.issuer!r}: must be https")
        if unknown := set(trust.default_roles) - set(ROLES):
            raise ValueError(f"default_roles = {sorted(unknown)}: a provider makes {', '.join(ROLES)} only")
        return trust

    def identity(self, claims: Mapping[str, Any]) -> Identity:
        """Return whom verified claims stand for. Raises NotLoggedIn where they name nobody."""
        user = claims.get(self.user)
        if not isinstance(user, str) or not user:
            raise NotLoggedIn(f"the token of {self.issuer} has no claim {self.user!r} that names a user")
        projects = _listed(claims, self.projects, self.default_projects)
        roles = _listed(claims, self.roles, self.default_roles)
        return Identity(
            user=user,
            # What a provider lists is a name: only a row of our own file may say '*'.
            projects=frozenset(project for project in projects if project != "*"),
            roles=frozenset(ROLES[role] for role in roles if role in ROLES),
        )


class Verifier:
    """Verifies tokens of one provider; what was verified is remembered until it expires."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked = -PAUSE_S
        # Why the provider gave no keys when it was asked last.
        self._away = ""
        self._asking = asyncio.Lock()
        self._verified: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    async def identify(self, token: str) -> Identity:
        """Return whom a token stands for. Raises NotLoggedIn, and Unreachable where the provider gives no keys."""
        digest = hashlib.sha256(token.encode()).digest()
        identity, expires = self._verified.get(digest, (None, 0.0))
        if identity is not None and time.time() < expires:
            return identity
        try:
            claims = await self._claims(token)
        except jwt.PyJWTError as error:
            raise NotLoggedIn(f"the token is not valid here ({error}): awe login") from error
        identity = self._trust.identity(claims)
        self._verified[digest] = identity, float(claims["exp"])
        while len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)
        return identity

    async def _claims(self, token: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            await self._key(str(jwt.get_unverified_header(token).get("kid", ""))),
            algorithms=ALGORITHMS,
            audience=self._trust.audience,
            issuer=self._trust.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "sub"]},
        )
        return claims

    async def _key(self, name: str) -> jwt.PyJWK:
        if name not in self._keys:
            await self._renew(name)
        if name not in self._keys:
            raise jwt.InvalidTokenError(f"{self._trust.issuer} has no key {name!r}")
        return self._keys[name]

    async def _renew(self, name: str) -> None:
        """Read the provider's keys anew, for one that is not among them. Raises Unreachable."""
        async with self._asking:
            if name in self._keys:
                return
            if time.monotonic() - self._asked >= PAUSE_S:
                self._asked, self._away = time.monotonic(), ""
                try:
                    self._keys = await asyncio.to_thread(_published, self._trust.issuer)
                except Unreachable as error:
                    self._away = error.message
                else:
                    log.info("keys of the OpenID provider read", issuer=self._trust.issuer, keys=len(self._keys))
            if self._away:
                # Nobody knows whether it has the key: who is refused now would log in again, in vain.
                raise Unreachable(self._away)


def _published(issuer: str) -> dict[str, jwt.PyJWK]:
    """Return a provider's keys by name. Raises Unreachable."""
    try:
        about = _read(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if about["issuer"] != issuer:
            raise Unreachable(f"the OpenID provider {issuer} says that it is {about['issuer']!r}")
        found = jwt.PyJWKSet.from_dict(_read(about["jwks_uri"]))
    except (OSError, ValueError, LookupError, jwt.PyJWTError) as error:
        raise Unreachable(f"the OpenID provider {issuer} gives no keys: {error}") from error
    return {str(key.key_id): key for key in found.keys}


def _read(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:  # noqa: S310 (the issuer is checked, and trusted)
        answer: dict[str, Any] = json.load(response)
    return answer


def _listed(claims: Mapping[str, Any], name: str, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that a claim lists; a text is one of them, or several with spaces in between."""
    value = claims.get(name) if name else None
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(map(str, value)) if isinstance(value, list) else otherwise
