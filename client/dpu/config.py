"""Which DPUs there are, which one is used, by whom and in which project: a file, overridden by the environment."""

from __future__ import annotations

import getpass
import tomllib
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu.errors import BadOption, NotLoggedIn, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dpu.oidc import Login

#: The embedded DPU of this user on this machine: there without any configuration.
LOCAL = "local"
DEFAULT_PROJECT = "default"
#: As whom this client is known to an OpenID provider.
CLIENT_ID = "awe"
#: Privilege levels: docs/reference/access.md.
LEVELS = range(1, 6)
#: What a session may change, with the variable and the file's key that say it first.
PLACES = {
    "dpu_name": ("DPU_DPU_NAME", "default"),
    "project": ("DPU_PROJECT", "project"),
    "username": ("DPU_USER", "username"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDpu:
    """One DPU of the configuration."""

    name: str
    #: 'unix:/path' or 'host:port', several of this machine with commas in between; '' for the embedded one, which says
    #: where it listens when it has started.
    address: str = ""
    #: Where its other services are; '': where the DPU itself says.
    archive: str = ""
    logs: str = ""
    code: str = ""
    #: Holds the token; None for the embedded one, and for one that has an OpenID provider.
    token_file: Path | None = None
    #: The OpenID provider that says who we are, '' where a token does; and who this client is there.
    issuer: str = ""
    client_id: str = CLIENT_ID
    #: Holds what that provider has given.
    login_file: Path = Path()

    @property
    def is_local(self) -> bool:
        """Whether this is the embedded DPU."""
        return self.name == LOCAL

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return "on this machine" if self.is_local else self.address

    @property
    def login(self) -> Login | None:
        """The log-in at its OpenID provider; None where it has none."""
        if not self.issuer:
            return None
        from dpu.oidc import Login, Provider

        return Login(self.login_file, Provider(self.issuer, self.client_id))

    def credential(self) -> Callable[[], str]:
        """Return what gives the token for each call. Raises NotLoggedIn."""
        if self.login is not None:
            return self.login.token
        token = self.token()
        return lambda: token

    def token(self) -> str:
        """Return the token of its file. Raises NotLoggedIn."""
        if self.token_file is None:
            raise NotLoggedIn(f"no token_file is configured for DPU {self.name!r}: see docs/how-to/log-in.md")
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            raise NotLoggedIn(
                f"the token of DPU {self.name!r} cannot be read from {str(self.token_file)!r}: {error.strerror}"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a session of the client goes by."""

    home: Path
    username: str
    project: str = DEFAULT_PROJECT
    dpu_name: str = LOCAL
    #: How far the products of this session's jobs are seen, 1 to 5; 0: as products are seen that nobody said it of.
    privileges: int = 0
    dpus: Mapping[str, KnownDpu] = field(default_factory=lambda: {LOCAL: KnownDpu(name=LOCAL)})
    #: Where a value comes from, by its name: a file, '$DPU_PROJECT', 'this session'. What is not here is the default.
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Config:
        """Return the configuration file with the environment over it. Raises UsageError naming file, key and value."""
        path = _path_of(environ)
        table = _Table(path, _load(path, required="DPU_CONFIG" in environ))
        table.refuse_unknown(("default", "project", "username", "dpus"))
        home = _home_of(environ)
        dpus = {LOCAL: KnownDpu(name=LOCAL)} | {n: _known(path, home, n, row) for n, row in table.tables("dpus")}
        chosen = {name: table.choose(environ, *places) for name, places in PLACES.items()}
        origins = {name: origin for name, (_, origin) in chosen.items() if origin}
        config = cls(
            home=home,
            username=chosen["username"][0] or _logged_in(dpus, chosen["dpu_name"][0]) or getpass.getuser(),
            project=chosen["project"][0] or DEFAULT_PROJECT,
            dpu_name=chosen["dpu_name"][0] or LOCAL,
            dpus=dpus,
            origins=origins | _home_origin(environ),
        )
        config.find(config.dpu_name)
        return config

    def evolve(self, origin: str, **changes: str) -> Config:
        """Return a copy with other values, which come from `origin`. Raises UsageError for a DPU that is unknown."""
        changed: dict[str, Any] = dict(changes)
        config = replace(self, **changed, origins={**self.origins, **dict.fromkeys(changes, origin)})
        config.find(config.dpu_name)
        return config

    def with_privileges(self, level: int) -> Config:
        """Return a copy whose products are seen as far as `level` says. Raises BadOption."""
        if level not in LEVELS or isinstance(level, bool):
            raise BadOption(f"privileges={level!r}: must be a whole number from 1 to 5")
        return replace(self, privileges=level)

    @property
    def catalogues(self) -> Path:
        """Where it is kept what trees of recipes can do."""
        return self.home / "cache" / "catalogues"

    def find(self, name: str) -> KnownDpu:
        """Return a DPU by name. Raises UsageError that lists the known ones."""
        if not isinstance(name, str) or name not in self.dpus:
            raise UsageError(f"there is no DPU {name!r}; known are {', '.join(self.dpus)}")
        return self.dpus[name]


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the file: look-ups that name what is wrong."""

    path: Path
    values: Mapping[str, Any]
    prefix: str = ""

    def text(self, key: str) -> str:
        value = self.values.get(key, "")
        if not isinstance(value, str):
            raise UsageError(f"{self.path}: {self.prefix}{key} = {value!r}: must be a text")
        return value

    def choose(self, environ: Mapping[str, str], variable: str, key: str) -> tuple[str, str]:
        """Return a value and where it comes from: the variable, else the file's key, else '' from ''."""
        if value := environ.get(variable):
            return value, f"${variable}"
        value = self.text(key)
        return value, str(self.path) if value else ""

    def tables(self, key: str) -> list[tuple[str, Mapping[str, Any]]]:
        value = self.values.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(row, dict) for row in value.values()):
            raise UsageError(f"{self.path}: {key} must hold a table for each DPU, [{key}.NAME]")
        return list(value.items())

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self.values:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise UsageError(f"{self.path}: {self.prefix}{key} is unknown{hint}; known are {', '.join(known)}")


def _known(path: Path, home: Path, name: str, row: Mapping[str, Any]) -> KnownDpu:
    table = _Table(path, row, f"dpus.{name}.")
    if name == LOCAL:
        raise UsageError(f"{path}: [dpus.{LOCAL}]: this name is the embedded DPU's: choose another")
    table.refuse_unknown(("address", "archive", "logs", "code", "token_file", "issuer", "client_id"))
    if table.text("issuer") and table.text("token_file"):
        raise UsageError(f"{path}: dpus.{name}: issuer and token_file exclude each other")
    if not table.text("address"):
        raise UsageError(f"{path}: dpus.{name}.address is missing: 'host:port' or 'unix:/path'")
    _check_address(path, name, table.text("address"))
    token_file = table.text("token_file")
    return KnownDpu(
        name=name,
        address=table.text("address"),
        archive=table.text("archive"),
        logs=table.text("logs"),
        code=table.text("code"),
        token_file=path.parent / Path(token_file).expanduser() if token_file else None,
        issuer=table.text("issuer"),
        client_id=table.text("client_id") or CLIENT_ID,
        login_file=home / "logins" / f"{name}.json" if table.text("issuer") else Path(),
    )


def _logged_in(dpus: Mapping[str, KnownDpu], name: str) -> str:
    """Return who is logged in to the DPU in use, '' where nobody is."""
    known = dpus.get(name)
    if known is None or not known.issuer:
        return ""
    from dpu.oidc import user_of

    return user_of(known.login_file)


def _check_address(path: Path, name: str, address: str) -> None:
    from dpu.channel import target

    try:
        target(address)
    except ValueError as error:
        raise UsageError(f"{path}: dpus.{name}.address = {address!r}: {error}") from error


def _path_of(environ: Mapping[str, str]) -> Path:
    if path := environ.get("DPU_CONFIG"):
        return Path(path).expanduser()
    folder = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return folder / "dpu" / "config.toml"


def _home_of(environ: Mapping[str, str]) -> Path:
    if home := environ.get("DPU_HOME"):
        return Path(home).expanduser().absolute()
    return Path(environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "dpu"


def _home_origin(environ: Mapping[str, str]) -> dict[str, str]:
    named = next((name for name in ("DPU_HOME", "XDG_STATE_HOME") if environ.get(name)), "")
    return {"home": f"${named}"} if named else {}


def _load(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        if required:
            raise UsageError(f"DPU_CONFIG={str(path)!r}: there is no such file") from error
        return {}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not TOML: {error}") from error
