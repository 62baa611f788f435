"""Frames that are seldom used: what an operator says of them, and which those are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from dpu.errors import BadOption, NothingSelected
from dpu_recipes.archive import Selection
from dpu_recipes.frames import QUALITY_FIGURE
from dpud.archive.conditions import AllOf, Comparison, Operator, of_project
from dpud.archive.records import Query, View, position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.archive.catalogue import Catalogue
    from dpud.archive.coldlist import ColdList, Uses
    from dpud.archive.records import Record

#: Records that are looked at together.
_PAGE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seldom:
    """Which frames are meant: those of which all holds that is said."""

    frame_class: str = ""
    instrument: str = ""
    #: Taken before this night.
    before: date | None = None
    #: In the archive since before this day, and since that day nobody asked for them.
    came_before: date | None = None
    unused_since: date | None = None

    @property
    def says_something(self) -> bool:
        """Return whether anything is said."""
        return self != Seldom()

    def query(self, view: View) -> Query:
        """Return what finds them in the catalogue; whether they were asked for, it does not know."""
        came = min((day for day in (self.came_before, self.unused_since) if day), default=None)
        earlier = {"night": self.before, "creation_date": came}
        return Query(
            view=view,
            frame_class=self.frame_class,
            selection=Selection(instrument=self.instrument),
            condition=AllOf(
                (
                    of_project(view),
                    *(Comparison.of(name, Operator.LESS, str(day)) for name, day in earlier.items() if day),
                )
            ),
        )


@dataclass(frozen=True, slots=True)
class Seeker:
    """Finds frames that are seldom used, in one tier or the other."""

    catalogue: Catalogue
    cold_list: ColdList
    uses: Uses

    def pages(self, view: View, seldom: Seldom, *, frozen: bool) -> Iterator[list[Record]]:
        """Give those of the cold tier, or of the warm one, each file once. Raises BadOption and NothingSelected."""
        if not seldom.says_something:
            raise BadOption(
                "say which frames: by --class, --instrument, --before NIGHT, --older-than DAYS or --unused-since DAY"
            )
        query, after, none = seldom.query(view), None, True
        while page := self.catalogue.select(query, after=after, limit=_PAGE):
            after = position(page[-1], only_job=False)
            if found := self._fitting(page, seldom, frozen=frozen):
                none = False
                yield found
        if none:
            raise self._nothing(view, seldom, frozen=frozen)

    def _fitting(self, page: list[Record], seldom: Seldom, *, frozen: bool) -> list[Record]:
        files = {record.frame.digest: record for record in page if _is_packable(record)}
        cold = self.cold_list.frozen(files)
        found = {digest: record for digest, record in files.items() if (digest in cold) is frozen}
        if seldom.unused_since is None:
            return list(found.values())
        last = self.uses.last(found)
        return [record for digest, record in found.items() if last.get(digest, date.min) < seldom.unused_since]

    def _nothing(self, view: View, seldom: Seldom, *, frozen: bool) -> NothingSelected:
        tier, done = ("cold", "thawed") if frozen else ("warm", "frozen")
        of_class = Query(view=view, frame_class=seldom.frame_class, condition=of_project(view))
        if seldom.frame_class and not self.catalogue.select(of_class, limit=1):
            return NothingSelected(
                f"project {view.project!r} has no {seldom.frame_class}: classes are called as in "
                "RawScienceFrame, BiasFrame, ReducedScienceFrame"
            )
        return NothingSelected(f"nothing to be {done}: no file of the {tier} tier fits all of what was said")


def _is_packable(record: Record) -> bool:
    """Return whether there is anything to be packed: values alone have no file, and a figure of quality is packed."""
    return bool(record.frame.digest) and record.frame.frame_class != QUALITY_FIGURE
