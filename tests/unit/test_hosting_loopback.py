import asyncio

import pytest

from dpu.errors import NotAllowed, Unreachable, UsageError
from dpu_api.v1 import logs_pb2, logs_pb2_grpc
from dpud.hosting.caller import Caller, Role, current_caller
from dpud.hosting.loopback import Loopback

CLOSE = "/dpu_api.v1.LogService/CloseTasks"


class Logs(logs_pb2_grpc.LogServiceServicer):
    def __init__(self):
        self.callers = []

    async def CloseTasks(self, request, _context):  # noqa: N802 (gRPC names it)
        self.callers.append(current_caller())
        if not request.tasks:
            raise UsageError("close what?")
        if request.tasks[0].lines < 0:
            await asyncio.get_running_loop().create_future()
        return logs_pb2.CloseTasksResponse()


def caller(role):
    return Caller("me", "", frozenset({role}))


def looped(logs, who):
    services = [("dpu_api.v1.LogService", lambda server: logs_pb2_grpc.add_LogServiceServicer_to_server(logs, server))]
    return Loopback(services, who).unary(CLOSE)


def request(lines):
    return logs_pb2.CloseTasksRequest(tasks=[logs_pb2.CloseTaskRequest(lines=lines)])


async def test_a_service_in_this_process_is_called_as_itself():
    logs = Logs()
    close = looped(logs, caller(Role.SERVICE))
    assert await close(request(1), timeout=60) == logs_pb2.CloseTasksResponse()
    assert logs.callers == [caller(Role.SERVICE)]
    with pytest.raises(LookupError):
        current_caller()


async def test_its_refusal_comes_as_it_is():
    close = looped(Logs(), caller(Role.SERVICE))
    with pytest.raises(UsageError, match="close what"):
        await close(logs_pb2.CloseTasksRequest(), timeout=60)


async def test_the_same_permissions_hold():
    logs = Logs()
    with pytest.raises(NotAllowed, match="CloseTasks is not allowed to me"):
        await looped(logs, caller(Role.WORKER))(request(1), timeout=60)
    assert logs.callers == []


async def test_a_service_that_does_not_answer_is_not_reached():
    with pytest.raises(Unreachable, match="CloseTasks was not answered within"):
        await looped(Logs(), caller(Role.SERVICE))(request(-1), timeout=0.01)
