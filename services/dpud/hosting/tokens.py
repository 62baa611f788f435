"""Whom a token stands for: the file of those that the DPU knows."""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import TYPE_CHECKING

from dpu.errors import NotLoggedIn
from dpud.hosting.caller import Caller, Identity, Role
from dpud.hosting.oidc import Trust, Verifier
from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

#: Of a JSON web token: header, claims, signature.
_DOTS = 2


def digest_of(token: str) -> str:
    """Return what is stored of a token: its SHA-256, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_row(secret: str, user: str, projects: Sequence[str], roles: Sequence[str]) -> str:
    """Return the row of a tokens file that knows `secret`."""
    values = {"sha256": digest_of(secret), "user": user, "projects": list(projects), "roles": list(roles)}
    # JSON's texts and lists are TOML's, too.
    return "[[token]]\n" + "".join(f"{key} = {json.dumps(values[key], ensure_ascii=False)}\n" for key in values)


class Tokens:
    """Identities by the digest of their token, and those that an OpenID provider vouches for."""

    def __init__(self, identities: Mapping[str, Identity], verifier: Verifier | None = None) -> None:
        self._identities = dict(identities)
        self._verifier = verifier

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a TOML file of [[token]] tables: sha256, user, projects, roles; and an [oidc] one. Raises BadSetting."""
        try:
            tables = tomllib.loads(path.read_text())
            rows = tables["token"]
            trust = Trust.of(tables["oidc"]) if "oidc" in tables else None
            return cls(
                {
                    row["sha256"]: Identity(
                        user=row["user"],
                        projects=frozenset(row["projects"]),
                        roles=frozenset(map(Role, row["roles"])),
                    )
                    for row in rows
                },
                Verifier(trust) if trust else None,
            )
        except OSError as error:
            raise BadSetting(f"DPU_TOKENS_FILE={str(path)!r}: cannot be read: {error.strerror}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise BadSetting(
                f"DPU_TOKENS_FILE={str(path)!r}: must be [[token]] tables of sha256, user, projects, roles, "
                f"and at most one [oidc]: {error}"
            ) from error

    async def identify(self, authorization: str) -> Identity:
        """Return whom an authorization header stands for. Raises NotLoggedIn, Unreachable."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or not token:
            raise NotLoggedIn("no token came with the call: log in first (docs/how-to/log-in.md)")
        # Looked up by digest: no comparison of secrets whose time could tell anything.
        identity = self._identities.get(digest_of(token))
        if identity is not None:
            return identity
        if self._verifier is not None and token.count(".") == _DOTS:
            return await self._verifier.identify(token)
        raise NotLoggedIn("the token is unknown to this DPU: log in again (docs/how-to/log-in.md)")


async def identify(tokens: Tokens, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    """Return who sent a call with this metadata. Raises NotLoggedIn or NotAllowed."""
    values = {key: value for key, value in metadata if isinstance(value, str)}
    identity = await tokens.identify(values.get("authorization", ""))
    return identity.caller(values.get("dpu-project", "") or "default")
