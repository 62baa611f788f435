"""The catalogue of frames: ports that are asked, that are told and that are corrected, and a memory adapter of all."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from dpu.errors import BadFrame, Conflict, NotFound
from dpud.archive import fence
from dpud.archive.conditions import value_of
from dpud.archive.records import Attempt, Family, Link, Position, Query, Record, View, position

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from dpu_recipes.frames import Frame

#: What frames can be counted by.
Facet: TypeAlias = Literal["night", "chip", "filter", "object"]

#: How many frames of other nights `calibrations` gives on each side, so that a refusal can name the nearest.
NEAREST = 5

#: How many products a refusal names.
_NAMED = 3


class Change(NamedTuple):
    """What a change did."""

    #: The records that it was about, as they stand now.
    records: list[Record]
    #: Digests of files that no record names any more.
    freed: frozenset[str]


class Catalogue(Protocol):
    """What can be asked. Every answer is of one moment, whole."""

    def select(self, query: Query, *, after: Position | None = None, limit: int) -> list[Record]:
        """Return the next records of a query in order, at most `limit`."""
        ...

    def counts(self, query: Query, by: Facet) -> dict[str, int]:
        """Return how many frames of a query there are by night, chip, filter or object, sorted by it."""
        ...

    def find(self, view: View, ids: Sequence[str]) -> list[Record]:
        """Return the records with these identifiers that the view shows, in no order."""
        ...

    def calibrations(self, view: View, frame_class: str, frame: Frame, *, nearest: bool = False) -> list[Record]:
        """Return every calibration of a class that may serve `frame`: same chip, its night's or covering DATE-OBS.

        With `nearest`, the few of other nights that are nearest to it instead, for the message of a refusal.
        """
        ...

    def unnamed(self, digests: Collection[str]) -> set[str]:
        """Return those of `digests` that no record names."""
        ...


class Ledger(Protocol):
    """What can be told. Each call is one transaction: durable when it returns, or as if it had never been made."""

    def add(self, records: Sequence[Record]) -> int:
        """Add raw frames of one project, pass over those that it has already, and return how many were new.

        Raises BadFrame where the project has another frame of the same file name.
        """
        ...

    def stage(self, record: Record) -> Change:
        """Add a product of an attempt, or return the one it staged before under this number.

        Raises StaleLease where the attempt is over, Conflict where that product has another content.
        """
        ...

    def publish(self, attempt: Attempt, *, commit: bool) -> Change:
        """Settle that an attempt ended well; its products become the project's, or without commit stay the job's.

        Raises Conflict where it was discarded, or settled otherwise.
        """
        ...

    def discard(self, attempt: Attempt) -> Change:
        """Settle that an attempt counts for nothing, and forget its products. Raises Conflict where it was settled."""
        ...

    def expire(self, before: datetime) -> Change:
        """Forget the unpublished products that were staged before a moment."""
        ...


class Memory(Protocol):
    """What is known of the jobs there were."""

    def highest_job(self) -> int:
        """Return the highest job of which an attempt was heard; 0 without any."""
        ...


class Amendments(Protocol):
    """What people may say of a frame after it came. Durable when the call returns."""

    def amend(self, record: Record) -> Record:
        """Take over validity, end of window and level of a frame from `record`, and return it as it stands.

        Raises NotFound where it has gone meanwhile.
        """
        ...

    def withdraw(self, record: Record) -> Change:
        """Forget a product. Raises Conflict where another was made from it, in whatever project."""
        ...


class Lineages(Protocol):
    """What was made from what. Every answer is of one moment; it has no record of what the view does not show."""

    def ancestry(self, view: View, frame_id: str) -> Family:
        """Return a frame and all that it was made from, and that was made from."""
        ...

    def progeny(self, view: View, frame_id: str) -> Family:
        """Return a frame and all that was made from it, and from that."""
        ...


def refuse_gone(record: Record) -> NotFound:
    """Return the error of a product that is not there any more."""
    return NotFound(f"project {record.project!r} has no product with identifier {record.frame.id!r} any more")


def refuse_used(record: Record, users: Sequence[Record]) -> Conflict:
    """Return the error of a product that others were made from; those of other projects are not named."""
    named = [f"{user.frame.frame_class} {user.frame.file_name}" for user in users if user.project == record.project]
    others = len(users) - len(named)
    elsewhere = [f"{others} product{'s' if others > 1 else ''} of another project"] if others else []
    more = [f"{len(named) - _NAMED} more"] if len(named) > _NAMED else []
    found = [*named[:_NAMED], *more, *elsewhere]
    verb = "was" if len(users) == 1 else "were"
    return Conflict(
        f"{record.frame.file_name} stays: {', '.join(found)} {verb} made from it; "
        "delete these first, or set it invalid with context.update_is_valid"
    )


def same_content(found: Record, asked: Record) -> Record:
    """Return the product that was staged before. Raises Conflict where it is not the one that is staged again."""
    if found.frame.digest != asked.frame.digest or found.frame.frame_class != asked.frame.frame_class:
        raise Conflict(
            f"product {asked.number} of {asked.attempt} was staged before as a {found.frame.frame_class} "
            f"with digest {found.frame.digest or 'none'!r}, not {asked.frame.digest or 'none'!r}"
        )
    return found


def refuse_namesake(found: Record) -> BadFrame:
    """Return the error of a raw frame whose file name another content has."""
    return BadFrame(
        f"the archive has a {found.frame.file_name} of other content already (digest {found.frame.digest[:12]}...), "
        f"from {found.frame.values.get('EXPOSURE', '')!r}: two exposures cannot have one name"
    )


@dataclass
class MemoryCatalogue:
    """All ports over a list, for tests and for the suite that every adapter passes."""

    _records: list[Record] = field(default_factory=list)
    _fences: dict[tuple[int, int], fence.Fence] = field(default_factory=dict)
    _links: list[tuple[str, Link]] = field(default_factory=list)
    _arrivals: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def select(self, query: Query, *, after: Position | None = None, limit: int) -> list[Record]:
        """Return the next records of a query."""
        if (first := query.first) is not None:
            found = sorted(self._fitting(query), key=lambda record: record.sequence)
            return sorted(found, key=lambda record: value_of(record, first.attribute), reverse=first.greatest)[:limit]
        keyed = sorted((position(record, only_job=query.only_job), record.sequence) for record in self._fitting(query))
        by_arrival = {record.sequence: record for record in self._records}
        return [by_arrival[number] for key, number in keyed if after is None or key > after][:limit]

    def counts(self, query: Query, by: Facet) -> dict[str, int]:
        """Return how many frames of a query there are."""
        counted = Counter(str(getattr(record.frame, by)) for record in self._fitting(query))
        return dict(sorted(counted.items()))

    def find(self, view: View, ids: Sequence[str]) -> list[Record]:
        """Return the records with these identifiers."""
        return view.nearest([record for record in self._records if record.frame.id in ids and view.shows(record)])

    def calibrations(self, view: View, frame_class: str, frame: Frame, *, nearest: bool = False) -> list[Record]:
        """Return what may serve a frame; with `nearest`, what lies nearest to it and may not."""
        same = [
            record
            for record in self._records
            if view.shows(record)
            and record.attempt is not None
            and (record.frame.frame_class, record.frame.instrument, record.frame.chip)
            == (frame_class, frame.instrument, frame.chip)
        ]
        serving = [record for record in same if may_serve(record.frame, frame)]
        if not nearest:
            return serving
        others = sorted((record for record in same if record not in serving), key=lambda record: record.frame.date_obs)
        earlier = [record for record in others if record.frame.date_obs < frame.date_obs]
        later = [record for record in others if record.frame.date_obs >= frame.date_obs]
        return [*earlier[-NEAREST:], *later[:NEAREST]]

    def unnamed(self, digests: Collection[str]) -> set[str]:
        """Return the digests that no record names."""
        return set(digests) - {record.frame.digest for record in self._records}

    def everything(self) -> list[Record]:
        """Return all records, whoever may see them."""
        return list(self._records)

    def add(self, records: Sequence[Record]) -> int:
        """Add raw frames."""
        with self._lock:
            known = {(record.project, record.frame.id) for record in self._records}
            new = [record for record in records if (record.project, record.frame.id) not in known]
            names = {(record.project, record.frame.file_name): record for record in self._records}
            for record in new:
                if (found := names.get((record.project, record.frame.file_name))) is not None:
                    raise refuse_namesake(found)
            self._append(new)
            return len(new)

    def stage(self, record: Record) -> Change:
        """Add a product."""
        attempt = _attempt_of(record)
        with self._lock:
            for known in self._records:
                if known.attempt == attempt and known.number == record.number:
                    return Change([same_content(known, record)], frozenset())
            freed = self._settle(fence.staged(self._fence(attempt), attempt))
            self._links += self._linked(record)
            return Change(self._append([record.evolve(published=False)]), freed)

    def publish(self, attempt: Attempt, *, commit: bool) -> Change:
        """Settle that an attempt ended well."""
        with self._lock:
            freed = self._settle(fence.published(self._fence(attempt), attempt, commit=commit))
            self._records = [
                record.evolve(published=commit) if record.attempt == attempt else record for record in self._records
            ]
            return Change([record for record in self._records if record.attempt == attempt], freed)

    def discard(self, attempt: Attempt) -> Change:
        """Settle that an attempt counts for nothing."""
        with self._lock:
            freed = self._settle(fence.discarded(self._fence(attempt), attempt))
            return Change([], freed | self._forget(record for record in self._records if record.attempt == attempt))

    def expire(self, before: datetime) -> Change:
        """Forget what nobody published."""
        with self._lock:
            old = [record for record in self._records if not record.published and record.frame.creation_date < before]
            return Change(old, self._forget(old))

    def highest_job(self) -> int:
        """Return the highest job."""
        return max((job for job, _ in self._fences), default=0)

    def amend(self, record: Record) -> Record:
        """Take over the validity and the level of a frame."""
        said = {"is_valid": record.frame.is_valid, "timestamp_end": record.frame.timestamp_end}
        with self._lock:
            for place, known in enumerate(self._records):
                if (known.project, known.frame.id) == (record.project, record.frame.id):
                    frame = known.frame.evolve(**said)
                    self._records[place] = known.evolve(frame=frame, privileges=record.privileges)
                    return self._records[place]
        raise refuse_gone(record)

    def withdraw(self, record: Record) -> Change:
        """Forget a product that nothing was made from."""
        with self._lock:
            users = {(project, link.product) for project, link in self._links if link.input == record.frame.id}
            if users:
                raise refuse_used(record, [item for item in self._records if (item.project, item.frame.id) in users])
            gone = [
                item for item in self._records if (item.project, item.frame.id) == (record.project, record.frame.id)
            ]
            return Change(gone, self._forget(gone))

    def ancestry(self, view: View, frame_id: str) -> Family:
        """Return a frame and all that it was made from."""
        return self._family(view, frame_id, lambda link: (link.product, link.input))

    def progeny(self, view: View, frame_id: str) -> Family:
        """Return a frame and all that was made from it."""
        return self._family(view, frame_id, lambda link: (link.input, link.product)).without_strangers()

    def _family(self, view: View, frame_id: str, ends: Callable[[Link], tuple[str, str]]) -> Family:
        records: dict[str, Record] = {}
        links: dict[Link, None] = {}
        waiting = [frame_id]
        while waiting:
            found = {record.frame.id: record for record in self.find(view, waiting)}
            records |= found
            new = sorted(link for _, link in self._links if ends(link)[0] in found)
            links |= dict.fromkeys(new)
            waiting = [name for name in dict.fromkeys(ends(link)[1] for link in new) if name not in records]
        return Family(list(records.values()), list(links))

    def _linked(self, record: Record) -> list[tuple[str, Link]]:
        digests = {item.frame.id: item.frame.digest for item in self._records}
        name = record.frame.id
        return [(record.project, Link(name, source, digests.get(source, ""))) for source in record.sources]

    def _fitting(self, query: Query) -> list[Record]:
        return query.view.nearest([record for record in self._records if query.fits(record)])

    def _fence(self, attempt: Attempt) -> fence.Fence | None:
        return self._fences.get((attempt.job, attempt.task))

    def _settle(self, changed: fence.Fence) -> frozenset[str]:
        job, task, newest = changed.newest
        self._fences[job, task] = changed
        return self._forget(
            record
            for record in self._records
            if record.attempt is not None
            and not record.published
            and record.attempt[:2] == (job, task)
            and record.attempt.attempt < newest
        )

    def _forget(self, records: Iterable[Record]) -> frozenset[str]:
        leaving = list(records)
        gone = {record.sequence: record.frame.digest for record in leaving}
        products = {(record.project, record.frame.id) for record in leaving}
        self._links = [(project, link) for project, link in self._links if (project, link.product) not in products]
        self._records = [record for record in self._records if record.sequence not in gone]
        return frozenset(self.unnamed({digest for digest in gone.values() if digest}))

    def _append(self, records: Sequence[Record]) -> list[Record]:
        first = self._arrivals + 1
        numbered = [record.evolve(sequence=number) for number, record in enumerate(records, first)]
        self._arrivals += len(numbered)
        self._records.extend(numbered)
        return numbered


def may_serve(candidate: Frame, frame: Frame) -> bool:
    """Return whether a calibration is of the frame's night, or its window covers DATE-OBS."""
    return candidate.night == frame.night or candidate.timestamp_start <= frame.date_obs < candidate.timestamp_end


def _attempt_of(record: Record) -> Attempt:
    if record.attempt is None:
        raise ValueError(f"{record.frame.frame_class} has no attempt that made it: only products are staged")
    return record.attempt
