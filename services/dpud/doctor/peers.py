"""The services that a service calls: whether they answer, and take its token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import dpu
from dpu.channel import open_channel
from dpu.errors import DpuError, NotFound
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2, archive_pb2_grpc, codeship_pb2, codeship_pb2_grpc, logs_pb2, logs_pb2_grpc
from dpu_api.v1.scheduler_pb2 import GetDpuRequest
from dpu_api.v1.scheduler_pb2_grpc import SchedulerServiceStub
from dpud.doctor.finding import Finding
from dpud.hosting.settings import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dpud.doctor.finding import Patient

    #: Makes a call that changes nothing; returns what is wrong with its answer.
    _Call = Callable[[grpc.Channel], str]

ANSWER_S = 5.0


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

LOOKS = (_peers,)
