"""Calls of a worker that come to nothing: made again where that may help, and never taken for a cancelled task."""

import asyncio

import pytest
from grpc import aio

from dpu.errors import InternalError, Unreachable
from dpud.worker.peers import BROKEN_OFF, answered, patiently


def given_up():
    """Return a call as gRPC leaves it that cannot write into it any more."""
    call = asyncio.get_running_loop().create_future()
    call.cancel()
    return call


def having(answer):
    call = asyncio.get_running_loop().create_future()
    call.set_result(answer)
    return call


async def test_a_call_that_grpc_gives_up_by_itself_says_that_the_service_went_away():
    with pytest.raises(Unreachable, match="the archive went away during a call"):
        await answered(given_up(), "the archive")


def failing(code, details):
    call = asyncio.get_running_loop().create_future()
    call.set_exception(aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details))
    return call


async def test_a_call_that_ended_while_it_was_written_into_may_be_asked_again():
    with pytest.raises(Unreachable, match="the archive ended a call while it was written into"):
        await answered(failing(*BROKEN_OFF), "the archive")
    with pytest.raises(InternalError, match="a fault of its own"):
        await answered(failing(BROKEN_OFF[0], "a fault of its own"), "the archive")


async def test_such_a_call_is_made_again():
    calls = [given_up(), failing(*BROKEN_OFF), having("staged")]
    assert await patiently(lambda: answered(calls.pop(0), "the archive"), "the archive") == "staged"
    assert calls == []


async def test_whoever_waits_for_a_call_can_still_be_cancelled():
    call = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(patiently(lambda: answered(call, "the archive"), "the archive"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
