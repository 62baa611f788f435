"""What happens around every call, through a real server: who calls, may they, what did the error mean."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from dpu import errors
from dpu.channel import MIB, open_async_channel, open_channel
from dpu.status import from_rpc
from dpu_api.v1 import codeship_pb2, codeship_pb2_grpc
from dpud.hosting.caller import current_caller
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, BadSetting
from fakes_hosting import eventually, place, served

NAME = "dpu_api.v1.CodeService"


def tree(kind=errors.DpuError):
    """Yield the classes that clients know; a service may have finer ones of its own below them."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


class Echo(codeship_pb2_grpc.CodeServiceServicer):
    """Fails as it is told to: with one of our errors, by its name, or with Python's own; or says who called."""

    def __init__(self):
        self.left = asyncio.Event()

    async def GetTree(self, request, context):  # noqa: N802, ARG002 (gRPC names it and its arguments)
        self._fail(request.digest)
        who = current_caller()
        return codeship_pb2.GetTreeResponse(tree=codeship_pb2.Tree(description=f"{who.user} in {who.project}"))

    async def DownloadBlobs(self, request, context):  # noqa: N802, ARG002 (gRPC names it and its arguments)
        try:
            yield codeship_pb2.DownloadBlobsResponse()
            self._fail(request.digests[0])
            await asyncio.Event().wait()
        finally:
            self.left.set()

    async def UploadBlobs(self, request_iterator, context):  # noqa: N802, ARG002 (gRPC names it and its arguments)
        async for request in request_iterator:
            self._fail(request.chunk.digest)
        return codeship_pb2.UploadBlobsResponse()

    def _fail(self, name):
        if name == "KeyError":
            raise KeyError("chip")
        if name:
            raise getattr(errors, name)("chip 'ccd58' is\nnot one of WFI's")

    def add_to(self, server):
        codeship_pb2_grpc.add_CodeServiceServicer_to_server(self, server)


@pytest.fixture
async def echo():
    async with serving(Echo()) as where:
        yield where


@asynccontextmanager
async def serving(servicer):
    async with served([(NAME, servicer.add_to)]) as where:
        yield where


def get(name):
    return codeship_pb2.GetTreeRequest(digest=name)


async def failure(call):
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return from_rpc(caught.value, "code shipping")


@pytest.mark.parametrize("kind", list(tree()))
async def test_every_error_comes_back_as_itself_from_every_kind_of_call(echo, kind):
    upload = codeship_pb2.UploadBlobsRequest(chunk=codeship_pb2.BlobChunk(digest=kind.__name__))

    async def downloaded(stub):
        async for _ in stub.DownloadBlobs(codeship_pb2.DownloadBlobsRequest(digests=[kind.__name__])):
            pass

    def synchronous():
        with open_channel(echo.address, "anna's", "KIDS") as channel:
            codeship_pb2_grpc.CodeServiceStub(channel).GetTree(get(kind.__name__))

    async with echo.channel("anna's") as channel:
        stub = codeship_pb2_grpc.CodeServiceStub(channel)
        calls = [
            stub.GetTree(get(kind.__name__)),
            stub.UploadBlobs(iter([upload])),
            downloaded(stub),
            asyncio.to_thread(synchronous),
        ]
        for call in calls:
            error = await failure(call)
            assert type(error) is kind
            assert error.message == "chip 'ccd58' is\nnot one of WFI's"


async def test_a_fault_of_ours_is_an_internal_error(echo):
    async with echo.channel("anna's") as channel:
        error = await failure(codeship_pb2_grpc.CodeServiceStub(channel).GetTree(get("KeyError")))
    assert type(error) is errors.InternalError
    assert error.message == "KeyError: 'chip'"


async def test_the_handler_knows_who_calls(echo):
    async with echo.channel("anna's") as anna, echo.channel("worker's", "VST") as worker:
        answers = await asyncio.gather(
            *(codeship_pb2_grpc.CodeServiceStub(channel).GetTree(get("")) for channel in (anna, worker) * 5)
        )
    assert [answer.tree.description for answer in answers] == ["anna in KIDS", "worker in VST"] * 5


@pytest.mark.parametrize(
    ("token", "project", "kind", "why"),
    [
        ("nobody's", "KIDS", errors.NotLoggedIn, "the token is unknown"),
        ("", "KIDS", errors.NotLoggedIn, "no token came with the call"),
        ("anna's", "VST", errors.NotAllowed, "anna is not a member of project 'VST'"),
        ("service's", "KIDS", errors.NotAllowed, "GetTree is not allowed to scheduler"),
    ],
)
async def test_who_may_not_call_is_refused(echo, token, project, kind, why):
    async with echo.channel(token, project) as channel:
        error = await failure(codeship_pb2_grpc.CodeServiceStub(channel).GetTree(get("")))
    assert type(error) is kind
    assert error.message.startswith(why)


async def test_a_call_without_any_metadata_is_refused(echo):
    async with grpc.aio.insecure_channel(echo.address) as channel:
        error = await failure(codeship_pb2_grpc.CodeServiceStub(channel).GetTree(get("")))
    assert type(error) is errors.NotLoggedIn


async def test_a_method_that_is_not_served_is_a_mismatch_of_versions(echo):
    async with echo.channel("anna's") as channel:
        call = channel.unary_unary("/dpu_api.v1.CodeService/Explode")
        error = await failure(call(b""))
    assert type(error) is errors.VersionMismatch


async def test_anybody_may_ask_for_health_and_what_is_served(echo):
    async with grpc.aio.insecure_channel(echo.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", NAME):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        answer = await call.read()
        assert NAME in [service.name for service in answer.list_services_response.service]
        call.cancel()


async def test_a_caller_who_left_ends_the_handler():
    servicer = Echo()
    async with serving(servicer) as where, where.channel("anna's") as channel:
        call = codeship_pb2_grpc.CodeServiceStub(channel).DownloadBlobs(codeship_pb2.DownloadBlobsRequest(digests=[""]))
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            await servicer.left.wait()


async def test_a_message_of_several_mib_passes(echo):
    async with echo.channel("anna's") as channel:
        chunk = codeship_pb2.BlobChunk(zstd=bytes(8 * MIB))
        stub = codeship_pb2_grpc.CodeServiceStub(channel)
        await stub.UploadBlobs(iter([codeship_pb2.UploadBlobsRequest(chunk=chunk)]))


async def test_calls_are_counted_by_their_end(echo):
    labels = {"grpc_type": "unary", "grpc_service": NAME, "grpc_method": "GetTree"}

    def counted():
        names = ("grpc_server_started_total", "grpc_server_handling_seconds_count")
        ends = [
            REGISTRY.get_sample_value("grpc_server_handled_total", labels | {"grpc_code": code})
            for code in ("OK", "NOT_FOUND")
        ]
        return [value or 0 for value in (*(REGISTRY.get_sample_value(name, labels) for name in names), *ends)]

    before = counted()
    async with echo.channel("anna's") as channel:
        stub = codeship_pb2_grpc.CodeServiceStub(channel)
        await stub.GetTree(get(""))
        await failure(stub.GetTree(get("NotFound")))
    assert [after - earlier for earlier, after in zip(before, counted(), strict=True)] == [2, 2, 1, 1]


async def test_a_call_whose_caller_left_is_counted_as_such():
    labels = {"grpc_type": "server_stream", "grpc_service": NAME, "grpc_method": "DownloadBlobs"}

    def left():
        return REGISTRY.get_sample_value("grpc_server_handled_total", labels | {"grpc_code": "CANCELLED"}) or 0

    before = left()
    async with serving(Echo()) as where, where.channel("anna's") as channel:
        call = codeship_pb2_grpc.CodeServiceStub(channel).DownloadBlobs(codeship_pb2.DownloadBlobsRequest(digests=[""]))
        await call.read()
        call.cancel()
        await eventually(lambda: left() == before + 1, left, seconds=60)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "dpu.example.org:443"])
async def test_a_service_refuses_to_listen_beyond_loopback(address):
    with place() as where:
        settings = replace(where.listening, listen=Address.parse(address))
        with pytest.raises(BadSetting, match="refused, because beyond loopback a service needs TLS"):
            async with listening(settings, []):
                pass


async def test_a_place_where_nobody_can_listen_is_named():
    with place() as where:
        settings = replace(where.listening, listen=Address.parse(f"unix:{where.listening.listen.socket}/x"))
        with pytest.raises(BadSetting, match=r"DPU_LISTEN='unix:.*': cannot listen there"):
            async with listening(settings, []):
                pass


async def test_a_socket_is_its_owners_alone(echo):
    assert echo.listening.listen.socket.stat().st_mode & 0o777 == 0o600


async def test_the_socket_of_a_killed_service_is_taken_over():
    with place() as where:
        where.listening.listen.socket.touch()
        servicer = Echo()
        async with (
            listening(where.listening, [(NAME, servicer.add_to)]),
            open_async_channel(where.address, "anna's", "KIDS") as channel,
        ):
            await codeship_pb2_grpc.CodeServiceStub(channel).GetTree(get(""))
