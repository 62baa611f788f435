"""What a selection would find, asked before a job begins; and what there is instead where it finds nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dpu.errors import BadOption, NothingSelected, UnknownChip, UnknownInstrument
from dpu_recipes.archive import Selection
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.night import BadNight, parse_night

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dpu_recipes.instruments import Instruments
    from dpud.archive.catalogue import Catalogue
    from dpud.archive.records import Query

#: How many nights, chips ... a message lists.
_FEW = 8


@dataclass(frozen=True, slots=True)
class Previews:
    """Answers what a selection would find."""

    catalogue: Catalogue
    instruments: Instruments

    def preview(self, query: Query, makers: str) -> dict[str, int]:
        """Return the number of frames by chip. `makers` is the call that makes such frames, where one does.

        Raises UnknownInstrument, UnknownChip and BadOption, which name the known ones, and NothingSelected, which
        lists what there is.
        """
        self._check(query.selection)
        found = self.catalogue.counts(query, "chip")
        if query.selection.file_names:
            self._check_names(query)
        elif not found:
            raise NothingSelected(self._nothing(query, makers))
        return found

    def _check(self, selection: Selection) -> None:
        check_night(selection)
        if selection.file_names and not selection.instrument:
            return
        try:
            instrument = self.instruments.get(selection.instrument)
        except InstrumentError as error:
            raise UnknownInstrument(str(error)) from error
        for chip in selection.chips:
            try:
                instrument.chip(chip)
            except InstrumentError as error:
                raise UnknownChip(str(error)) from error

    def _check_names(self, query: Query) -> None:
        for name in query.selection.file_names:
            one = replace(query.selection, file_names=(name,))
            if not self.catalogue.counts(replace(query, selection=one), "chip"):
                raise NothingSelected(
                    f"no {query.frame_class} of project {query.view.project!r} has or comes from the file name {name!r}"
                )

    def _nothing(self, query: Query, makers: str) -> str:
        asked = query.selection
        wanted = f"no {query.frame_class} fits {_described(asked)}"
        make = f"; make them: {makers}" if makers else ""
        wide = replace(query, selection=Selection(instrument=asked.instrument))
        nights = self.catalogue.counts(wide, "night")
        if not nights:
            hint = make or "; ingest some: awe ingest PATH..."
            return f"{wanted}: project {query.view.project!r} has none of {asked.instrument} at all{hint}"
        there: dict[str, Iterable[str]] = {"nights": _nearest(nights, asked.night)}
        if asked.night in nights:
            # Of the night that was asked for, the rest says more.
            wide = replace(query, selection=Selection(instrument=asked.instrument, night=asked.night))
        there |= {f"{by}s": self.catalogue.counts(wide, by) for by in ("filter", "chip", "object")}
        lists = "; ".join(f"{what}: {_few(values)}" for what, values in there.items() if any(values))
        return f"{wanted}. There are such frames with {lists}{make}"


def check_night(selection: Selection) -> None:
    """Raise BadOption where the selection's night is none."""
    if not selection.night:
        return
    try:
        parse_night(selection.night)
    except BadNight as error:
        raise BadOption(str(error)) from error


def _described(selection: Selection) -> str:
    parts = {
        "instrument": selection.instrument,
        "date": selection.night,
        "chip": ", ".join(selection.chips),
        "filter": selection.filter,
        "object": selection.object,
    }
    return ", ".join(f"{name} {value!r}" for name, value in parts.items() if value)


def _nearest(nights: Iterable[str], asked: str) -> list[str]:
    if not asked:
        return sorted(nights, reverse=True)
    middle = parse_night(asked).toordinal()
    return sorted(nights, key=lambda night: abs(parse_night(night).toordinal() - middle))


def _few(values: Iterable[str]) -> str:
    listed = [value for value in values if value]
    more = f" and {len(listed) - _FEW} more" if len(listed) > _FEW else ""
    return ", ".join(listed[:_FEW]) + more
