"""In which trace each job was submitted: what happens to it later goes on with that."""

from __future__ import annotations

from collections import OrderedDict

from dpu import tracing

#: Jobs whose traces are kept. They are in no journal: after a restart a job's spans end with what it had.
KEPT = 10_000


class Traces:
    """Remembers, while this process lives and somebody traces, where the jobs of late were submitted."""

    def __init__(self) -> None:
        self._parents: OrderedDict[int, str] = OrderedDict()

    def note(self, job: int) -> None:
        """Keep that a job is taken here, in whatever trace this is."""
        if parent := tracing.present():
            self._parents[job] = parent
            if len(self._parents) > KEPT:
                self._parents.popitem(last=False)

    def of(self, job: int) -> str:
        """Return where a job was submitted, as W3C's traceparent; '' where that was in no trace."""
        return self._parents.get(job, "")
