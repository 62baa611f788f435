"""Settings: the environment, read once in a service's main.py; a bad one names its key and its value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dpu.channel import is_local, target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
_NOTHING = object()
LARGEST_PORT = 65_535


class BadSetting(Exception):
    """A setting is missing, or its value makes no sense."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens or is found: a Unix socket, or host and port."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address, checked: 'unix:/path' or 'host:port'."""
        if not re.fullmatch(r"unix:/[^,]+|(dns:///)?[^\s/:]+:\d+|\[[0-9a-fA-F:]+\]:\d+", text):
            raise ValueError("must be 'unix:/path' or 'host:port'")
        address = cls(text)
        if address.socket is None and address.port > LARGEST_PORT:
            raise ValueError(f"must be 'unix:/path' or 'host:port', a port of at most {LARGEST_PORT}")
        return address

    @classmethod
    def parse_several(cls, text: str) -> Address:
        """Return the address, checked, of a service that may run several times: one, or more with commas in between."""
        for one in text.split(","):
            cls.parse(one)
        target(text)
        return cls(text)

    @property
    def socket(self) -> Path | None:
        """The path of the Unix socket, or None."""
        return Path(self.text.removeprefix("unix:")) if self.text.startswith("unix:") else None

    @property
    def host(self) -> str:
        """The host, for host:port."""
        return self.text.removeprefix("dns:///").rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port, for host:port."""
        return int(self.text.rpartition(":")[2])

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_local(self.text)


class Environment:
    """Typed look-ups in a mapping of strings."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, key: str, convert: Callable[[str], T], default: T | object = _NOTHING) -> T:
        """Return the setting `key` converted, or its default. Raises BadSetting."""
        text = self._values.get(key, "")
        if text == "":
            if default is _NOTHING:
                raise BadSetting(f"{key} is not set")
            return default  # type: ignore[return-value]  # the caller's own default is a T
        try:
            return convert(text)
        except ValueError as error:
            raise BadSetting(f"{key}={text!r}: {error}") from error

    def secret(self, key: str) -> str:
        """Return the content of the file that `key` names, stripped: secrets come as files only."""
        path = self.get(key, Path)
        try:
            return path.read_text().strip()
        except OSError as error:
            raise BadSetting(f"{key}={str(path)!r}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of a certificate, with those that vouch for it, and of its key."""

    certificate: Path
    key: Path

    @classmethod
    def read(cls, environment: Environment) -> Tls | None:
        """Read DPU_TLS_CERTIFICATE and DPU_TLS_KEY; None where there is no certificate."""
        certificate = environment.get("DPU_TLS_CERTIFICATE", Path, None)
        return cls(certificate, environment.get("DPU_TLS_KEY", Path)) if certificate else None


@dataclass(frozen=True, slots=True)
class Listening:
    """What every service that listens is told."""

    listen: Address
    tokens: Path
    metrics: Address | None
    tls: Tls | None = None
    #: Health alone, in plain text: for whoever cannot speak TLS, as a kubelet's probes.
    health: Address | None = None

    @classmethod
    def read(cls, environment: Environment) -> Listening:
        """Read DPU_LISTEN, DPU_TOKENS_FILE, DPU_METRICS_LISTEN, DPU_HEALTH_LISTEN and the files of TLS."""
        return cls(
            listen=environment.get("DPU_LISTEN", Address.parse),
            tokens=environment.get("DPU_TOKENS_FILE", Path),
            metrics=environment.get("DPU_METRICS_LISTEN", Address.parse, None),
            tls=Tls.read(environment),
            health=environment.get("DPU_HEALTH_LISTEN", Address.parse, None),
        )


@dataclass(frozen=True, slots=True)
class Peer:
    """Another service, and the token to call it with."""

    address: Address
    token: str

    @classmethod
    def read(cls, environment: Environment, key: str) -> Peer:
        """Read the address `key` (DPU_ARCHIVE, DPU_LOGS, ...) and the token in DPU_TOKEN_FILE."""
        address = environment.get(key, Address.parse_several)
        return cls(address=address, token=environment.secret("DPU_TOKEN_FILE"))
