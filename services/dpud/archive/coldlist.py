"""What lies in the cold tier, and when files were asked for last: two ports, and a memory adapter of both."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

    from dpud.archive.catalogue import MemoryCatalogue
    from dpud.archive.records import Record


class Total(NamedTuple):
    """How much lies in one tier; a file that several frames share counts once."""

    frames: int = 0
    files: int = 0
    #: Of the frames' own bytes, and of what takes their place here.
    size: int = 0
    stored: int = 0


class Totals(NamedTuple):
    """How much lies in each tier."""

    warm: Total = Total()
    cold: Total = Total()


class ColdList(Protocol):
    """Which files lie in the cold tier. Each change is one transaction."""

    def freeze(self, digest: str, stored: int) -> bool:
        """Note that a file lies there, in so many bytes. False where no record names it any more: nothing is noted."""
        ...

    def thaw(self, digest: str) -> None:
        """Note that it does not any more."""
        ...

    def frozen(self, digests: Collection[str]) -> set[str]:
        """Return those of `digests` that lie there."""
        ...

    def forget(self, digests: Collection[str]) -> set[str]:
        """Forget all that is known of files that are gone, and return those of them that lay there."""
        ...

    def totals(self, project: str = "") -> Totals:
        """Return how much there is in each tier, of a project or of all."""
        ...


class Uses(Protocol):
    """On which day a file was asked for last."""

    def note(self, digests: Collection[str], day: date) -> None:
        """Note that files were asked for on a day; an earlier one changes nothing."""
        ...

    def last(self, digests: Collection[str]) -> dict[str, date]:
        """Return the last day of each of `digests` that was ever asked for."""
        ...


@dataclass
class MemoryColdList:
    """Both ports beside a catalogue in memory."""

    catalogue: MemoryCatalogue
    _stored: dict[str, int] = field(default_factory=dict)
    _days: dict[str, date] = field(default_factory=dict)

    def freeze(self, digest: str, stored: int) -> bool:
        """Note that a file lies there."""
        if self.catalogue.unnamed([digest]):
            return False
        self._stored[digest] = stored
        return True

    def thaw(self, digest: str) -> None:
        """Note that it does not any more."""
        self._stored.pop(digest, None)

    def frozen(self, digests: Collection[str]) -> set[str]:
        """Return those that lie there."""
        return self._stored.keys() & set(digests)

    def forget(self, digests: Collection[str]) -> set[str]:
        """Forget files that are gone."""
        gone = self.frozen(digests)
        for digest in digests:
            self._stored.pop(digest, None)
            self._days.pop(digest, None)
        return gone

    def totals(self, project: str = "") -> Totals:
        """Return how much there is in each tier."""
        by_digest = defaultdict[str, "list[Record]"](list)
        for record in self.catalogue.everything():
            if record.frame.digest and project in ("", record.project):
                by_digest[record.frame.digest].append(record)
        warm = {digest: frames for digest, frames in by_digest.items() if digest not in self._stored}
        cold = {digest: frames for digest, frames in by_digest.items() if digest in self._stored}
        return Totals(_total(warm, {}), _total(cold, self._stored))

    def note(self, digests: Collection[str], day: date) -> None:
        """Note that files were asked for."""
        for digest in digests:
            self._days[digest] = max(day, self._days.get(digest, day))

    def last(self, digests: Collection[str]) -> dict[str, date]:
        """Return the last days."""
        return {digest: self._days[digest] for digest in digests if digest in self._days}


def _total(files: Mapping[str, list[Record]], stored: Mapping[str, int]) -> Total:
    sizes = {digest: records[0].frame.size for digest, records in files.items()}
    return Total(
        frames=sum(map(len, files.values())),
        files=len(files),
        size=sum(sizes.values()),
        stored=sum(stored.get(digest, size) for digest, size in sizes.items()),
    )
