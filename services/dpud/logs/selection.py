"""Which lines of a job a reader wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dpu_api.v1.logs_pb2 import LogBatch
    from dpud.logs.ledger import Ledger
    from dpud.logs.record import Lines, TaskEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is left out has no say: an empty selection is everything."""

    tasks: frozenset[int] = frozenset()
    attempts: frozenset[int] = frozenset()
    #: Words of a task's label.
    chips: frozenset[str] = frozenset()
    newest_attempt: bool = False
    #: The least level.
    level: int = 0
    #: Whether the text of a line is one of those wanted.
    finds: Callable[[str], object] | None = None
    since_us: int | None = None
    until_us: int | None = None

    def wants(self, ledger: Ledger, record: Lines | TaskEnded) -> bool:
        """Return whether some of the record may be wanted, as far as is known now."""
        return (
            (not self.tasks or record.task in self.tasks)
            and (not self.attempts or record.attempt in self.attempts)
            and (not self.chips or not self.chips.isdisjoint(ledger.labels.get(record.task, "").split()))
            and (not self.newest_attempt or ledger.is_newest(record.task, record.attempt))
        )

    @property
    def looks_into_lines(self) -> bool:
        """Whether a line may be wanted and its neighbour not."""
        return bool(self.level or self.finds) or not (self.since_us is self.until_us is None)

    def runs(self, batch: LogBatch, start: int) -> Iterator[tuple[int, int]]:
        """Yield the runs [start, stop) of neighbouring lines that are wanted, from number `start` of the batch on."""
        if not self.looks_into_lines:
            yield start, len(batch.texts)
            return
        begun = None
        for at in range(start, len(batch.texts)):
            if self._picks(batch, at):
                begun = at if begun is None else begun
            elif begun is not None:
                yield begun, at
                begun = None
        if begun is not None:
            yield begun, len(batch.texts)

    def _picks(self, batch: LogBatch, at: int) -> bool:
        return (
            batch.levels[at] >= self.level
            and (self.since_us is None or batch.time_us[at] >= self.since_us)
            and (self.until_us is None or batch.time_us[at] < self.until_us)
            # Last, because it costs most.
            and (self.finds is None or bool(self.finds(batch.texts[at])))
        )
