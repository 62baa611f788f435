"""Every error that the DPU raises on purpose: one tree.

    DpuError
    +-- UsageError                what was asked cannot be done as it was asked
    |   +-- UnknownSequence, UnknownOption, BadOption, UnknownInstrument, UnknownChip
    |   +-- BadFrame              a file that is not a frame we understand
    |   +-- BadTree               a tree of code that may not travel
    +-- NotFound                  no such job, frame, tree ... (or not yours: the two read the same)
    |   +-- NothingSelected, MissingCalibration, UnknownSession
    +-- NotAllowed                you may not do that
    |   +-- NotLoggedIn
    +-- Conflict                  it was done before, otherwise
    |   +-- StaleLease            the task is another worker's by now
    |   +-- MissingBlobs          a tree names content that was not uploaded
    |   +-- VersionMismatch       client and service do not understand each other
    +-- Exhausted                 over quota
    |   +-- StorageFull           a disk is full
    +-- Unreachable               no answer: the service is not there, or not now
    |   +-- TimedOut
    +-- InternalError             a fault of ours; its log has the rest

A class's docstring is its default message.
"""

from __future__ import annotations


class DpuError(Exception):
    """The DPU could not do that."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        """The whole text, for a person."""
        return str(self.args[0])


class UsageError(DpuError):
    """That cannot be done as it was asked."""


class UnknownSequence(UsageError):
    """There is no such sequence."""


class UnknownOption(UsageError):
    """There is no such option."""


class BadOption(UsageError):
    """An option has a value that it cannot have."""


class UnknownInstrument(UsageError):
    """There is no such instrument."""


class UnknownChip(UsageError):
    """The instrument has no such chip."""


class BadFrame(UsageError):
    """The file is not a frame that we understand."""


class BadTree(UsageError):
    """The tree of code may not travel."""


class NotFound(DpuError):
    """There is no such thing, or it is not yours."""


class NothingSelected(NotFound):
    """No frame fits the selection."""


class MissingCalibration(NotFound):
    """No valid calibration covers the frame."""


class UnknownSession(NotFound):
    """The scheduler does not know this session: register anew."""


class NotAllowed(DpuError):
    """You may not do that."""


class NotLoggedIn(NotAllowed):
    """The token is missing or unknown: log in first."""


class Conflict(DpuError):
    """It was done before, otherwise."""


class StaleLease(Conflict):
    """The task is another worker's by now."""


class MissingBlobs(Conflict):
    """The tree names content that was not uploaded."""


class VersionMismatch(Conflict):
    """Client and service do not understand each other."""


class Exhausted(DpuError):
    """Over quota."""


class StorageFull(Exhausted):
    """The disk is full: nothing was stored."""


class Unreachable(DpuError):
    """The service cannot be reached."""


class TimedOut(Unreachable):
    """The service did not answer in time."""


class InternalError(DpuError):
    """A fault inside the DPU: its log has the rest."""
