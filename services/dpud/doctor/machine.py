"""What a service has on its machine: a folder with room, files of tokens, places to listen."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpu.local import refuse_network
from dpud.doctor.finding import Finding
from dpud.hosting.settings import Address, BadSetting
from dpud.hosting.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.doctor.finding import Patient

#: Less of a disk than this is soon nothing.
FREE_PART, FREE_BYTES = 0.1, 2**30
#: A Unix socket's path has at most so many bytes.
SOCKET_PATH = 107
LISTENS = ("DPU_LISTEN", "DPU_METRICS_LISTEN", "DPU_HEALTH_LISTEN")


def _folder(patient: Patient) -> Iterator[Finding]:
    if (folder := patient.state) is None:
        return
    if why := unwritable("DPU_STATE", folder):
        yield Finding(good=False, text=why)
        return
    try:
        refuse_network(_existing(folder))
    except UsageError:
        yield Finding(
            good=False,
            text=f"DPU_STATE={str(folder)!r} is on a network file system: databases break there; use a local disk",
        )
    else:
        yield Finding(good=True, text=f"{folder} can be written")


def unwritable(key: str, folder: Path) -> str:
    """Return why nothing can be written into a folder, and what to do; empty where it can."""
    there = _existing(folder)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ""
    return f"{key}={str(folder)!r}: {there} cannot be written: chown it, or name another"


def _existing(path: Path) -> Path:
    """Return the path itself, or the nearest folder above that is there."""
    # What is in a folder that may not be entered is not there for us.
    return next(each for each in (path.absolute(), *path.absolute().parents) if os.access(each, os.F_OK))


def _disk(patient: Patient) -> Iterator[Finding]:
    if patient.state is None:
        return
    usage = shutil.disk_usage(_existing(patient.state))
    free = f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB are free under {patient.state}"
    enough = usage.free >= max(FREE_BYTES, FREE_PART * usage.total)
    yield Finding(good=enough, text=free if enough else f"only {free}: make room (docs/runbooks/disk.md)")


def _tokens(patient: Patient) -> Iterator[Finding]:
    # Those that are called by tokens of their own file.
    if not hasattr(patient.settings, "listening"):
        return
    path: Path = patient.settings.listening.tokens
    try:
        Tokens.read(path)
    except BadSetting as error:
        yield Finding(good=False, text=f"{error}: `dpud token` makes a row")
        return
    tables = tomllib.loads(path.read_text())
    roles = {role for row in tables["token"] for role in row["roles"]}
    if "oidc" in tables:
        # People come from the provider.
        roles.add("user")
    missing = [role for role in ("user", "worker", "service") if role not in roles]
    if missing:
        yield Finding(
            good=False, text=f"{path}: nobody has the role {missing[0]!r}: `dpud token NAME --role {missing[0]}`"
        )
    else:
        yield Finding(good=True, text=f"{path} knows users, workers and the scheduler")


def _own_token(patient: Patient) -> Iterator[Finding]:
    path = patient.environment.get("DPU_TOKEN_FILE", Path, None)
    if path is None or not path.exists():
        return
    open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o077
    if open_to_others:
        yield Finding(good=False, text=f"DPU_TOKEN_FILE={str(path)!r} can be read by others: chmod 600 {path}")
    else:
        yield Finding(good=True, text=f"{path} is its owner's alone")


def _addresses(patient: Patient) -> Iterator[Finding]:
    # Nobody calls a worker.
    for key in LISTENS if patient.service != "worker" else ("DPU_METRICS_LISTEN",):
        address = patient.environment.get(key, Address.parse, None)
        if address is not None:
            yield _socket(key, address.socket) if address.socket else _port(key, address)


def _socket(key: str, path: Path) -> Finding:
    if len(os.fsencode(path)) > SOCKET_PATH:
        return Finding(
            good=False, text=f"{key}: {path} is longer than a socket's {SOCKET_PATH} bytes: name a shorter one"
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        return Finding(good=False, text=f"{key}: no socket can be made in {path.parent}: make the folder")
    return Finding(good=True, text=f"{key}: a socket can be made at {path}")


def _port(key: str, address: Address) -> Finding:
    try:
        (family, kind, _, _, where), *_ = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(where)
    except OSError as error:
        advice = "stop what listens there (this service?), or name another port"
        return Finding(good=False, text=f"{key}={address.text!r}: {error.strerror}: {advice}")
    return Finding(good=True, text=f"{key}: {address.text} is free")


LOOKS = (_folder, _disk, _tokens, _own_token, _addresses)
