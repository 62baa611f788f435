"""Who is there, and until when leases stand: what is not worth a journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpud.scheduler.model import Key

#: A session that was silent for this long is over.
SESSION_TERM_S = 90.0


@dataclass(slots=True)
class Session:
    """A worker that is there."""

    worker: str
    slots: int
    memory_mib: int
    seen: float
    #: Nothing was heard of it since it registered: what it held before is not settled yet.
    fresh: bool = True
    #: It is to hand back what it holds, and end.
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a lease lapses, and whether its lapse is charged to the task."""

    at: float
    charged: bool = True


@dataclass(slots=True)
class Presence:
    """Sessions and terms; a replay begins without them."""

    sessions: dict[str, Session] = field(default_factory=dict)
    deadlines: dict[Key, Deadline] = field(default_factory=dict)
    #: A serialised Catalogue: what the worker that registered last can do.
    catalogue: bytes = b""
    #: The highest job that others know.
    highest_job: int = 0
    #: The logs are in this process, and are told that a job ended before anybody can ask them.
    logs_here: bool = False

    @property
    def slots(self) -> int:
        """How many tasks the workers can run at once."""
        return sum(session.slots for session in self.sessions.values())

    @property
    def memory_mib(self) -> int:
        """The memory of the largest worker; 0 without any."""
        return max((session.memory_mib for session in self.sessions.values()), default=0)
