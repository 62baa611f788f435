"""Which DPUs the pages show: where the services of each are, and who is let in."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dpu.config import CLIENT_ID, DEFAULT_PROJECT
from dpud.hosting.settings import Address, BadSetting, Environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: A name is a part of addresses and of cookies.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
#: What stands in an address where a DPU's name could.
TAKEN = {"static", "health"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One DPU, as the pages reach it."""

    name: str
    scheduler: Address
    logs: Address
    archive: Address
    #: None: of a job's code the pages know the digest alone.
    code: Address | None = None
    #: The OpenID provider where people sign in, and who the pages are there; '': they have a token.
    oidc_issuer: str = ""
    oidc_client: str = CLIENT_ID
    #: The token in whose name those look who have not signed in, and in which project; '': they have to.
    visitors_token: str = field(default="", repr=False)
    visitors_project: str = DEFAULT_PROJECT

    @classmethod
    def read(cls, environment: Environment) -> Place:
        """Read DPU_NAME, DPU_SCHEDULER, DPU_LOGS, DPU_ARCHIVE, DPU_CODE, and how people come in. Raises BadSetting."""
        looked = environment.get("DPU_VISITORS_TOKEN_FILE", str, "")
        return cls(
            name=environment.get("DPU_NAME", _name),
            scheduler=environment.get("DPU_SCHEDULER", Address.parse_several),
            logs=environment.get("DPU_LOGS", Address.parse_several),
            archive=environment.get("DPU_ARCHIVE", Address.parse_several),
            code=environment.get("DPU_CODE", Address.parse_several, None),
            oidc_issuer=environment.get("DPU_OIDC_ISSUER", str, ""),
            oidc_client=environment.get("DPU_OIDC_CLIENT", str, CLIENT_ID),
            visitors_token=environment.secret("DPU_VISITORS_TOKEN_FILE") if looked else "",
            visitors_project=environment.get("DPU_VISITORS_PROJECT", str, DEFAULT_PROJECT),
        )

    @property
    def addresses(self) -> Mapping[str, Address]:
        """Where each service is, by the setting that says so."""
        found = {f"DPU_{key.upper()}": getattr(self, key) for key in SERVICES}
        return {key: address for key, address in found.items() if address is not None}


#: The services of a place.
SERVICES = ("scheduler", "logs", "archive", "code")
#: What a table of the file may say, each as the setting DPU_... of the same name.
KEYS = (*SERVICES, "oidc_issuer", "oidc_client", "visitors_token_file", "visitors_project")


def read_several(path: Path) -> tuple[Place, ...]:
    """Return the DPUs of a TOML file: a table each, in their order. Raises BadSetting."""
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise BadSetting(f"DPU_WEB_DPUS={str(path)!r}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadSetting(f"DPU_WEB_DPUS={str(path)!r}: is not TOML: {error}") from error
    if not tables:
        raise BadSetting(f"DPU_WEB_DPUS={str(path)!r}: names no DPU: it holds a table for each, [groningen]")
    return tuple(_place(path, name, row) for name, row in tables.items())


def _place(path: Path, name: str, row: object) -> Place:
    if not isinstance(row, dict):
        raise BadSetting(f"{path}: {name} = {row!r}: must be a table, [{name}]")
    values: Mapping[str, object] = row
    if unknown := sorted(set(values) - set(KEYS)):
        raise BadSetting(f"{path}: [{name}] {', '.join(unknown)} is unknown; known are {', '.join(KEYS)}")
    settings = {f"DPU_{key.upper()}": str(value) for key, value in values.items()}
    try:
        return Place.read(Environment({**settings, "DPU_NAME": name}))
    except BadSetting as error:
        raise BadSetting(f"{path}: [{name}] {error}") from error


def _name(text: str) -> str:
    if not NAME.fullmatch(text) or text in TAKEN:
        raise ValueError("must be letters, digits, '-', '_' and '.', and not " + " or ".join(sorted(TAKEN)))
    return text
