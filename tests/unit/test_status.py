"""The table between errors and statuses, without a network."""

import grpc
import pytest
from google.rpc import error_details_pb2

from dpu import errors
from dpu.status import CODES, code_of, from_rpc, to_status


def tree(kind=errors.DpuError):
    """Yield the classes that clients know; a service may have finer ones of its own below them."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


@pytest.mark.parametrize("kind", list(tree()))
def test_a_status_names_the_class_and_carries_the_message(kind):
    status = to_status(kind("chip 'ccd58' is not one of WFI's"))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (kind.__name__, "dpu")
    assert status.message == "chip 'ccd58' is not one of WFI's"
    assert status.code == code_of(kind()).value[0]


@pytest.mark.parametrize("kind", list(tree()))
def test_a_class_says_what_it_means_when_it_has_no_message(kind):
    assert kind().message == kind.__doc__.strip().splitlines()[0]


def test_a_class_travels_as_its_nearest_named_parent():
    assert code_of(errors.BadTree()) == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(errors.UnknownSession()) == grpc.StatusCode.NOT_FOUND
    assert code_of(errors.NotLoggedIn()) == grpc.StatusCode.UNAUTHENTICATED
    assert code_of(errors.TimedOut()) == grpc.StatusCode.DEADLINE_EXCEEDED


def test_every_branch_of_the_tree_has_a_code_of_its_own():
    assert set(errors.DpuError.__subclasses__()) <= set(CODES)


def test_the_drawing_of_the_tree_shows_every_error():
    assert [kind.__name__ for kind in tree() if kind.__name__ not in errors.__doc__] == []


class Failed(grpc.RpcError, grpc.Call):
    """A call that some other server failed."""

    def __init__(self, code, details):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return ()

    def initial_metadata(self):
        return ()

    def _nothing(self, *_):
        raise NotImplementedError

    is_active = time_remaining = cancel = add_callback = _nothing


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unreachable, "the DPU cannot be reached: gone"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.TimedOut, "the DPU did not answer in time"),
        (grpc.StatusCode.UNIMPLEMENTED, errors.VersionMismatch, "does not know the call: gone"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Exhausted, "the DPU: gone"),
        (grpc.StatusCode.UNAUTHENTICATED, errors.NotLoggedIn, "the DPU: gone"),
        (grpc.StatusCode.PERMISSION_DENIED, errors.NotAllowed, "the DPU: gone"),
        (grpc.StatusCode.DATA_LOSS, errors.InternalError, "the DPU: DATA_LOSS: gone"),
    ],
)
def test_a_status_of_grpcs_own_is_one_of_our_errors(code, kind, message):
    error = from_rpc(Failed(code, "gone"))
    assert type(error) is kind
    assert error.message.endswith(message)


def test_what_is_no_call_at_all_is_unreachable():
    error = from_rpc(grpc.RpcError("no channel"), "the archive")
    assert type(error) is errors.Unreachable
    assert error.message == "the archive cannot be reached: no channel"
