"""The system's users as whom a worker's tasks run, where it runs as root: one for each user of the DPU."""

from __future__ import annotations

from dataclasses import dataclass, field

from dpu.errors import Exhausted


@dataclass(frozen=True, slots=True)
class Uids:
    """A stretch of uids that nobody else uses; each is given to one user, for as long as the worker lives."""

    first: int
    count: int
    _given: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Uids | None:
        """Return the uids of 'FIRST-LAST', or None for 'none'. Raises ValueError."""
        if text == "none":
            return None
        first, dash, last = text.partition("-")
        if not (dash and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 2**32 - 1):
            raise ValueError("must be FIRST-LAST, two uids above 0, or 'none'")
        return cls(int(first), int(last) - int(first) + 1)

    def of(self, user: str) -> int:
        """Return the uid of a user. Raises Exhausted when all are given."""
        if user not in self._given and len(self._given) == self.count:
            raise Exhausted(
                f"all {self.count} uids of this worker are given to other users: widen DPU_WORKER_UIDS, or restart it"
            )
        return self._given.setdefault(user, self.first + len(self._given))
