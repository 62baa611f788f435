"""Which calibrations a frame is reduced with, of those that somebody sees, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu.errors import BadOption, MissingCalibration
from dpu_recipes import validity
from dpu_recipes.archive import MissingCalibration as NoneValid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dpu_recipes.frames import Frame
    from dpud.archive.catalogue import Catalogue
    from dpud.archive.records import Record, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one class of calibrations has for a frame."""

    frame_class: str
    #: None where none is valid.
    record: Record | None
    why: str


@dataclass(frozen=True, slots=True)
class Choices:
    """Chooses by the rules of dpu_recipes.validity."""

    catalogue: Catalogue

    def choose(self, view: View, frame_class: str, frame: Frame, overscan: int | None = None) -> Choice:
        """Return the calibration of a class. Raises MissingCalibration, and BadOption for what is no such class."""
        if frame_class not in validity.CALIBRATIONS:
            raise BadOption(f"{frame_class!r} is no class of calibrations: {', '.join(validity.CALIBRATIONS)}")
        candidates = {id(record.frame): record for record in self.catalogue.calibrations(view, frame_class, frame)}
        frames = [record.frame for record in candidates.values()]
        try:
            chosen, why = validity.choose(frame_class, frame, frames, overscan)
        except NoneValid:
            raise self._refused(view, frame_class, frame, frames, overscan) from None
        return Choice(frame_class=frame_class, record=candidates[id(chosen)], why=why)

    def standing(self, view: View, records: Iterable[Record]) -> list[Record]:
        """Return those of some products that would be given the same calibrations if they were made now."""
        return [record for record in records if self._stands(view, record.frame)]

    def _stands(self, view: View, product: Frame) -> bool:
        asked = json.loads(product.consulted or "[]")
        names = {frame_id for _, frame_id, *_ in asked}
        known = {record.frame.id: record.frame for record in self.catalogue.find(view, sorted(names))} if names else {}
        return known.keys() == names and all(
            self._answer(view, frame_class, known[frame_id], overscan) == answer
            for frame_class, frame_id, overscan, answer in asked
        )

    def _answer(self, view: View, frame_class: str, frame: Frame, overscan: int | None) -> str:
        """Return the identifier of the calibration that is valid, '' where none is."""
        frames = [record.frame for record in self.catalogue.calibrations(view, frame_class, frame)]
        try:
            return validity.choose(frame_class, frame, frames, overscan)[0].id
        except NoneValid:
            return ""

    def _refused(
        self, view: View, frame_class: str, frame: Frame, unfit: list[Frame], overscan: int | None
    ) -> MissingCalibration:
        """Return the error that names what is nearest, of the frame's own nights and of others."""
        nearest = self.catalogue.calibrations(view, frame_class, frame, nearest=True)
        try:
            validity.choose(frame_class, frame, [*unfit, *(record.frame for record in nearest)], overscan)
        except NoneValid as error:
            return MissingCalibration(str(error))
        return MissingCalibration(f"no {frame_class} was valid for {frame.file_name} a moment ago: ask again")

    def every(self, view: View, frame: Frame) -> list[Choice]:
        """Return what each class has that a frame of this kind can be reduced with."""
        return list(self._every(view, frame))

    def _every(self, view: View, frame: Frame) -> Iterator[Choice]:
        dark = frame.frame_class in validity.IGNORING_FILTER_AND_OBJECT
        for name, kind in validity.CALIBRATIONS.items():
            if name == frame.frame_class or (dark and kind.by_filter):
                continue
            try:
                yield self.choose(view, name, frame)
            except MissingCalibration as error:
                yield Choice(frame_class=name, record=None, why=error.message)
