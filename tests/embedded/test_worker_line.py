"""The stream to the scheduler: nothing of it is left when it is closed, whoever ended it."""

from pathlib import Path

import pytest
from grpc import aio

from dpu_api.v1.dispatch_pb2 import WorkRequest
from dpu_api.v1.dispatch_pb2_grpc import DispatchServiceStub
from dpud.worker.line import Stream
from dpud.worker.peers import Channels
from fakes_worker import passing_on, surroundings, until


async def _heard_out(line: Stream) -> None:
    while await line.hear() is not None:
        pass


@pytest.mark.parametrize("ends", ["scheduler", "worker"])
async def test_nothing_waits_for_more_to_be_said_on_a_stream_that_has_ended(tmp_path: Path, ends: str) -> None:
    async with surroundings(tmp_path) as rig:
        channels = Channels(rig.settings.scheduler)
        line = Stream(DispatchServiceStub(channels.of()))
        # Nobody's session: the scheduler ends the stream, once it is asked.
        await line.say(WorkRequest(session="nobody's"))
        if ends == "scheduler":
            with pytest.raises(aio.AioRpcError, match="NOT_FOUND"):
                await _heard_out(line)
        assert passing_on()
        await line.close()
        await until(lambda: not passing_on(), "the end of what passes on what is written")
        await channels.close()


async def test_a_stream_that_never_came_about_is_closed(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as rig:
        channels = Channels(rig.settings.scheduler)
        line = Stream(DispatchServiceStub(channels.of()))
        await line.close()
        await until(lambda: not passing_on(), "the end of what passes on what is written")
        await channels.close()
