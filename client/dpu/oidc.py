"""Logs in at an OpenID provider, by a code (device flow, RFC 8628) or in the browser that asks; renews the tokens."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dpu.errors import NotLoggedIn, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

#: `offline_access` asks for a token to renew the others with.
SCOPE = "openid profile offline_access"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
DEADLINE_S = 20.0
#: A token is renewed when it is valid for less than that: a call takes its time to arrive.
MARGIN_S = 60.0
#: Between two questions, unless the provider says otherwise; `slow_down` adds as much (RFC 8628, 3.5).
INTERVAL_S = 5.0
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a person is to do in a browser, on any machine."""

    url: str
    code: str
    device: str
    interval: float
    expires: float


@dataclass(frozen=True, slots=True)
class Authorization:
    """A log-in that a browser has begun: what only it and we know, and where it comes back to."""

    state: str
    nonce: str
    verifier: str
    redirect: str

    @classmethod
    def begin(cls, redirect: str) -> Authorization:
        """Return a new one."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, redirect)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the provider has given. `identity` is what the DPU is shown: a JSON web token, signed."""

    identity: str
    refresh: str = ""

    @property
    def claims(self) -> Mapping[str, Any]:
        """What the token says of its owner; who receives it verifies it, we only read it."""
        payload = self.identity.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return claims

    @property
    def user(self) -> str:
        """Whom it stands for."""
        return str(self.claims.get("preferred_username") or self.claims["sub"])

    @property
    def is_fresh(self) -> bool:
        """Whether it is valid for a while."""
        return float(self.claims["exp"]) > time.time() + MARGIN_S


class Provider:
    """An OpenID provider, as a public client sees it."""

    def __init__(self, issuer: str, client_id: str) -> None:
        self._issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._known: Mapping[str, Any] | None = None

    def challenge(self) -> Challenge:
        """Begin a log-in. Raises Unreachable, or UsageError where the provider has no device flow for this client."""
        answer = self._post(
            self._endpoint("device_authorization_endpoint"), {"client_id": self._client_id, "scope": SCOPE}
        )
        if "error" in answer:
            raise UsageError(f"{self._issuer} begins no log-in: {_reason(answer)}")
        return Challenge(
            url=answer.get("verification_uri_complete") or answer["verification_uri"],
            code=answer["user_code"],
            device=answer["device_code"],
            interval=float(answer.get("interval", INTERVAL_S)),
            expires=time.monotonic() + float(answer["expires_in"]),
        )

    def wait(self, challenge: Challenge, sleep: Callable[[float], None] = time.sleep) -> Tokens:
        """Return the tokens once the person has answered. Raises NotLoggedIn where that is no, or too late."""
        interval = challenge.interval
        request = {"grant_type": DEVICE_GRANT, "device_code": challenge.device, "client_id": self._client_id}
        while time.monotonic() < challenge.expires:
            sleep(interval)
            answer = self._post(self._endpoint("token_endpoint"), request)
            match answer.get("error"):
                case None:
                    return _tokens(answer, "")
                case "authorization_pending":
                    pass
                case "slow_down":
                    interval += INTERVAL_S
                case _:
                    raise NotLoggedIn(f"{self._issuer} refuses the log-in: {_reason(answer)}")
        raise NotLoggedIn("nobody entered the code in time: awe login gives another")

    def authorization(self, begun: Authorization) -> str:
        """Return where a browser is sent to log in (authorization code with PKCE, RFC 7636). Raises Unreachable."""
        digest = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": begun.redirect,
            "scope": SCOPE,
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": digest,
            "code_challenge_method": "S256",
            # Without it many providers give no token to renew the others with.
            "prompt": "consent",
        }
        return f"{self._endpoint('authorization_endpoint')}?{urllib.parse.urlencode(asked)}"

    def exchange(self, begun: Authorization, code: str) -> Tokens:
        """Return the tokens for what a browser came back with. Raises NotLoggedIn, Unreachable."""
        request = {
            "grant_type": "authorization_code",
            "client_id": self._client_id,
            "redirect_uri": begun.redirect,
            "code": code,
            "code_verifier": begun.verifier,
        }
        answer = self._post(self._endpoint("token_endpoint"), request)
        if "error" in answer:
            raise NotLoggedIn(f"{self._issuer} refuses the log-in: {_reason(answer)}")
        tokens = _tokens(answer, "")
        if tokens.claims.get("nonce") != begun.nonce:
            raise NotLoggedIn(f"{self._issuer} answered another log-in than this one: begin again")
        return tokens

    def renew(self, tokens: Tokens) -> Tokens:
        """Return fresh tokens. Raises NotLoggedIn where the provider gives none, Unreachable."""
        request = {"grant_type": "refresh_token", "refresh_token": tokens.refresh, "client_id": self._client_id}
        answer = self._post(self._endpoint("token_endpoint"), request)
        if "error" in answer:
            raise NotLoggedIn(f"{self._issuer} renews the log-in no more ({_reason(answer)}): awe login")
        return _tokens(answer, tokens.refresh)

    def revoke(self, tokens: Tokens) -> None:
        """Tell the provider that the log-in is over, where it wants to know (RFC 7009)."""
        if tokens.refresh and "revocation_endpoint" in self._discovered():
            self._post(self._endpoint("revocation_endpoint"), {"token": tokens.refresh, "client_id": self._client_id})

    def _endpoint(self, name: str) -> str:
        try:
            return _checked(str(self._discovered()[name]))
        except KeyError:
            raise UsageError(f"{self._issuer} has no {name}: use a token file (docs/how-to/log-in.md)") from None

    def _discovered(self) -> Mapping[str, Any]:
        if self._known is None:
            self._known = self._ask(_checked(f"{self._issuer}/.well-known/openid-configuration"), None)
        return self._known

    def _post(self, url: str, fields: Mapping[str, str]) -> dict[str, Any]:
        return self._ask(url, urllib.parse.urlencode(fields).encode())

    def _ask(self, url: str, body: bytes | None) -> dict[str, Any]:
        """Return an answer, that of a refusal too. Raises Unreachable."""
        request = urllib.request.Request(url, body, {"Accept": "application/json"})  # noqa: S310 (checked: https)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:  # noqa: S310
                content = response.read()
        except urllib.error.HTTPError as error:
            content = error.read()
        except OSError as error:
            raise Unreachable(f"the OpenID provider {self._issuer} cannot be reached: {error}") from error
        try:
            answer = json.loads(content or b"{}")
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unreachable(f"{url} does not answer as an OpenID provider does: {content[:80]!r}")
        return answer


class Login:
    """The log-in at one DPU: its file, which only its owner reads, and the token of the moment."""

    def __init__(self, path: Path, provider: Provider) -> None:
        self.path = path
        self.provider = provider
        self._tokens: Tokens | None = None

    def keep(self, tokens: Tokens) -> None:
        """Write tokens to the file, whole or not at all."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(tokens), file)
        part.replace(self.path)
        self._tokens = tokens

    def token(self) -> str:
        """Return a token that is valid, renewed where it was not. Raises NotLoggedIn, Unreachable."""
        if self._tokens is None or not self._tokens.is_fresh:
            self._tokens = self._renewed()
        return self._tokens.identity

    def forget(self) -> None:
        """End the log-in, here and at the provider."""
        try:
            self.provider.revoke(self._read())
        finally:
            self.path.unlink(missing_ok=True)
            self._tokens = None

    def _renewed(self) -> Tokens:
        tokens = self._read()
        if tokens.is_fresh:
            return tokens
        # One session renews, the others read what it got: many providers take a token for renewal once only.
        with _locked(self.path.with_suffix(".lock")):
            tokens = self._read()
            if not tokens.is_fresh:
                tokens = self.provider.renew(tokens)
                self.keep(tokens)
        return tokens

    def _read(self) -> Tokens:
        try:
            return Tokens(**json.loads(self.path.read_text()))
        except FileNotFoundError:
            raise NotLoggedIn("you are not logged in: awe login") from None
        except (OSError, ValueError, TypeError) as error:
            raise NotLoggedIn(f"{str(self.path)!r} holds no log-in ({error}): awe login") from error


def user_of(path: Path) -> str:
    """Return who is logged in by the file `path`, '' where nobody is."""
    try:
        return Tokens(**json.loads(path.read_text())).user
    except (OSError, ValueError, TypeError, LookupError):
        return ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _tokens(answer: Mapping[str, Any], refresh: str) -> Tokens:
    if "id_token" not in answer:
        raise NotLoggedIn("the OpenID provider gave no identity token: awe login")
    return Tokens(identity=answer["id_token"], refresh=answer.get("refresh_token", refresh))


def _reason(answer: Mapping[str, Any]) -> str:
    return str(answer.get("error_description") or answer["error"])


def _checked(url: str) -> str:
    """Return a URL to which secrets may go: https, or this machine. Raises UsageError."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise UsageError(f"{url!r}: an OpenID provider must be reached by https")
    return url
