"""Whether a service can do its work with these settings, on this machine, beside the others; and what to do if not."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import sqlite3
import stat
import tomllib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import dpu
from dpu.channel import open_channel
from dpu.errors import DpuError, NotFound, UsageError
from dpu.local import refuse_network
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2, archive_pb2_grpc, codeship_pb2, codeship_pb2_grpc, logs_pb2, logs_pb2_grpc
from dpu_api.v1.scheduler_pb2 import GetDpuRequest
from dpu_api.v1.scheduler_pb2_grpc import SchedulerServiceStub
from dpud.hosting.settings import Address, BadSetting, Environment
from dpud.hosting.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    #: Makes a call that changes nothing; returns what is wrong with its answer.
    _Call = Callable[[grpc.Channel], str]

ANSWER_S = 5.0
#: Less of a disk than this is soon nothing.
FREE_PART, FREE_BYTES = 0.1, 2**30
#: A Unix socket's path has at most so many bytes.
SOCKET_PATH = 107
#: The SQLite file of each service that has one, unless DPU_DATABASE names another database.
FILES = {"scheduler": "journal.sqlite", "archive": "catalogue.sqlite"}
LISTENS = ("DPU_LISTEN", "DPU_METRICS_LISTEN", "DPU_HEALTH_LISTEN")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what is so, or what is wrong and what to do."""

    good: bool
    text: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A service with its settings, as they are written and as it understands them."""

    service: str
    environment: Environment
    settings: Any

    @property
    def state(self) -> Path | None:
        """Its folder; None where it keeps nothing."""
        return getattr(self.settings, "state", None)


def examine(service: str, values: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is found; nothing is changed but a port that is tried."""
    environment = Environment(values)
    try:
        settings = importlib.import_module(f"dpud.{service}.main").Settings.read(environment)
    except BadSetting as error:
        yield Finding(good=False, text=f"{error}: mend this setting first (docs/reference/services.md)")
        return
    yield Finding(good=True, text=f"the settings of {service} {dpu.__version__} make sense")
    for look in (_folder, _disk, _tokens, _own_token, _addresses, _database, _peers, _isolation):
        yield from look(Patient(service, environment, settings))


def _folder(patient: Patient) -> Iterator[Finding]:
    if (folder := patient.state) is None:
        return
    there = _existing(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            good=False, text=f"DPU_STATE={str(folder)!r}: {there} cannot be written: chown it, or name another"
        )
        return
    try:
        refuse_network(there)
    except UsageError:
        yield Finding(
            good=False,
            text=f"DPU_STATE={str(folder)!r} is on a network file system: databases break there; use a local disk",
        )
    else:
        yield Finding(good=True, text=f"{folder} can be written")


def _existing(path: Path) -> Path:
    """Return the path itself, or the nearest folder above that is there."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


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
    roles = {role for row in tomllib.loads(path.read_text())["token"] for role in row["roles"]}
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


def _database(patient: Patient) -> Iterator[Finding]:
    if patient.environment.get("DPU_DATABASE", str, ""):
        yield _server(patient.environment.get("DPU_DATABASE", str))
    elif patient.state and (file := patient.state / FILES.get(patient.service, "")).is_file():
        yield _sqlite(file)


def _server(url: str) -> Finding:
    import sqlalchemy as sa

    try:
        with sa.create_engine(url).connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return Finding(good=False, text=f"DPU_DATABASE: no answer: {said}: start it, or mend the URL")
    return Finding(good=True, text="DPU_DATABASE answers")


def _sqlite(file: Path) -> Finding:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said == "ok":
        return Finding(good=True, text=f"{file} is whole")
    return Finding(good=False, text=f"{file} is damaged: {said}: restore it (docs/how-to/backup.md)")


def _peers(patient: Patient) -> Iterator[Finding]:
    for key, call in _CALLS.get(patient.service, {}).items():
        address = patient.environment.get(key, Address.parse_several)
        with open_channel(address.text, patient.environment.secret("DPU_TOKEN_FILE"), "") as channel:
            yield _peer(key, address, channel, call)
    # The page calls with the tokens of people.
    for place in getattr(patient.settings, "places", ()):
        for key, address in place.addresses.items():
            with open_channel(address.text, "", "") as channel:
                yield _peer(key, address, channel, None)


def _peer(key: str, address: Address, channel: grpc.Channel, call: _Call | None) -> Finding:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its types leave the methods out
    try:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        said = call(channel) if call else ""
    except grpc.RpcError as error:
        reason = from_rpc(error, address.text)
        return Finding(good=False, text=f"{key}={address.text!r}: {_advice(reason)}")
    if said:
        return Finding(good=False, text=f"{key}={address.text!r}: {said}")
    return Finding(good=True, text=f"{key}: {address.text} answers{', and takes this token' if call else ''}")


def _advice(reason: DpuError) -> str:
    kind = type(reason).__name__
    advice = {
        "Unreachable": "start it, or mend the address",
        "NotLoggedIn": "append the row of DPU_TOKEN_FILE's token to its DPU_TOKENS_FILE",
        "NotAllowed": "give that token the role that this service needs",
        "VersionMismatch": "it is of another release: docs/how-to/upgrade.md",
    }
    return f"{reason.message}: {advice.get(kind, 'see its log')}"


def _asks_scheduler(channel: grpc.Channel) -> str:
    """Return what is wrong with the scheduler's version."""
    found = SchedulerServiceStub(channel).GetDpu(GetDpuRequest(), timeout=ANSWER_S).version
    return (
        "" if found == dpu.__version__ else f"is of release {found}, this of {dpu.__version__}: docs/how-to/upgrade.md"
    )


def _asks_archive_as_worker(channel: grpc.Channel) -> str:
    archive_pb2_grpc.ArchiveServiceStub(channel).ListInstruments(archive_pb2.ListInstrumentsRequest(), timeout=ANSWER_S)
    return ""


def _asks_archive(channel: grpc.Channel) -> str:
    archive_pb2_grpc.ArchiveServiceStub(channel).GetHighestJob(archive_pb2.GetHighestJobRequest(), timeout=ANSWER_S)
    return ""


def _asks_logs(channel: grpc.Channel) -> str:
    stub = logs_pb2_grpc.LogServiceStub(channel)
    stub.GetHighestJobWithLogs(logs_pb2.GetHighestJobWithLogsRequest(), timeout=ANSWER_S)
    return ""


def _asks_logs_as_worker(channel: grpc.Channel) -> str:
    list(logs_pb2_grpc.LogServiceStub(channel).Append(iter(()), timeout=ANSWER_S))
    return ""


def _asks_code(channel: grpc.Channel) -> str:
    """Ask for a tree that nobody has."""
    try:
        request = codeship_pb2.GetTreeRequest(digest="0" * 64)
        codeship_pb2_grpc.CodeServiceStub(channel).GetTree(request, timeout=ANSWER_S)
    except grpc.RpcError as error:
        if not isinstance(from_rpc(error), NotFound):
            raise
    return ""


#: Whom each service calls, and how it can try its own token there.
_CALLS: Mapping[str, Mapping[str, _Call]] = {
    "scheduler": {"DPU_ARCHIVE": _asks_archive, "DPU_LOGS": _asks_logs},
    "worker": {
        "DPU_SCHEDULER": _asks_scheduler,
        "DPU_ARCHIVE": _asks_archive_as_worker,
        "DPU_LOGS": _asks_logs_as_worker,
        "DPU_CODE": _asks_code,
    },
}


def _isolation(patient: Patient) -> Iterator[Finding]:
    if patient.service != "worker":
        return
    from dpud.worker.confinement import lacking

    missing = lacking(patient.settings.uids)
    if missing:
        yield Finding(good=False, text=f"tasks are not kept apart by {'; '.join(missing)}: docs/reference/threats.md")
    else:
        yield Finding(good=True, text="tasks can be kept apart")
