"""Which of several addresses is called: the one that serves, and another as soon as that one does."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager, closing

import grpc
import pytest

from dpu.channel import open_async_channel, open_channel
from dpu_api.v1 import scheduler_pb2, scheduler_pb2_grpc
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, Listening
from dpud.hosting.tokens import token_row

NAME = "dpu_api.v1.SchedulerService"


class Named(scheduler_pb2_grpc.SchedulerServiceServicer):
    def __init__(self, name):
        self._name = name

    async def GetDpu(self, _request, _context):  # noqa: N802 (gRPC's name)
        return scheduler_pb2.GetDpuResponse(name=self._name)


@asynccontextmanager
async def scheduler(folder, address, name, *, serving):
    (folder / "tokens.toml").write_text(token_row("anna", "anna", ["*"], ["user"]))
    place = Listening(Address.parse(address), folder / "tokens.toml", None)
    adding = [(NAME, lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(Named(name), server))]
    async with listening(place, adding, serving=serving):
        yield


@pytest.fixture(params=["sockets", "ports"])
def addresses(request, tmp_path):
    if request.param == "sockets":
        return [f"unix:{tmp_path / name}" for name in "ab"]
    with closing(socket.socket()) as first, closing(socket.socket()) as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in (first, second)]


async def answered(channel):
    """Return who answers, when somebody does."""
    stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
    while True:
        try:
            return (await stub.GetDpu(scheduler_pb2.GetDpuRequest(), timeout=30)).name
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 (any other is a fault)
            await asyncio.sleep(0.01)


@pytest.mark.timeout(60)
async def test_the_one_that_serves_is_called_and_then_the_other(tmp_path, addresses):
    async with open_async_channel(",".join(addresses), "anna") as channel:
        async with scheduler(tmp_path, addresses[0], "standby", serving=False), AsyncExitStack() as leader:
            await leader.enter_async_context(scheduler(tmp_path, addresses[1], "leader", serving=True))
            assert {await answered(channel) for _ in range(8)} == {"leader"}
        async with scheduler(tmp_path, addresses[0], "successor", serving=True):
            assert {await answered(channel) for _ in range(8)} == {"successor"}


@pytest.mark.timeout(60)
async def test_where_all_stand_by_a_call_says_that_nobody_serves(tmp_path, addresses):
    async with (
        scheduler(tmp_path, addresses[0], "one", serving=False),
        scheduler(tmp_path, addresses[1], "other", serving=False),
        open_async_channel(",".join(addresses), "anna") as channel,
    ):
        stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            await stub.GetDpu(scheduler_pb2.GetDpuRequest(), timeout=50)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_clients_own_channel_goes_by_the_same(tmp_path, addresses):
    async with (
        scheduler(tmp_path, addresses[0], "standby", serving=False),
        scheduler(tmp_path, addresses[1], "leader", serving=True),
    ):
        with open_channel(",".join(addresses), "anna", "kids") as channel:
            call = scheduler_pb2_grpc.SchedulerServiceStub(channel).GetDpu.future(
                scheduler_pb2.GetDpuRequest(), timeout=20
            )
            assert (await asyncio.to_thread(call.result)).name == "leader"
