"""Whether a service answers, asked beside it with its own settings: for containers whose engine asks by a command."""

from __future__ import annotations

import ssl
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dpu.errors import Unreachable
from dpu.status import from_rpc
from dpud.hosting.settings import Address, Environment, Tls

ANSWER_S = 5.0
#: A file of the queue page that stands still: whether the services behind it answer, the page itself says.
STILL = "/static/style.css"


def ask(service: str, environment: Environment) -> None:
    """Ask a service of this machine whether it is there. Raises Unreachable, and BadSetting where it answers nobody."""
    if service == "web":
        port = environment.get("DPU_LISTEN", Address.parse).port
        _ask_page(
            HTTPSConnection("localhost", port, timeout=ANSWER_S, context=_itself())
            if Tls.read(environment)
            else HTTPConnection("localhost", port, timeout=ANSWER_S)
        )
    else:
        _ask_service(environment.get("DPU_HEALTH_LISTEN", Address.parse).text)


def _itself() -> ssl.SSLContext:
    """Trust whoever answers: nobody on the way from a machine to itself could be somebody else."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _ask_page(connection: HTTPConnection) -> None:
    with closing(connection):
        try:
            connection.request("GET", STILL)
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            raise Unreachable(f"port {connection.port} gave no answer: {error}") from error
    if status != HTTPStatus.OK:
        raise Unreachable(f"port {connection.port} answered {status} to {STILL}")


def _ask_service(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types leave the methods out
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        except grpc.RpcError as error:
            raise from_rpc(error, address) from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unreachable(f"{address} says that it does not serve")
