"""A night of small raw frames in a folder archive, and the recipes run on it as a task's process runs them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from dpu_recipes import instruments, registry
from dpu_recipes.archive import Selection
from dpu_recipes.archive_folder import FolderArchive
from dpu_recipes.frames import Frame, Strips

if TYPE_CHECKING:
    from pathlib import Path

    from dpu_recipes.task import TaskSpec

NIGHT = date(2000, 4, 28)
START = datetime(2000, 4, 28, 22, 0, tzinfo=UTC)
NOISE = 4.0
STRIPS = Strips(prescan_x=8, overscan_x=16, prescan_y=0, overscan_y=4)
#: (y, x) of the whole frame; the data are 128 x 96.
SHAPE = (132, 120)


class Night:
    """An archive of one night of WFI."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock = datetime(2026, 1, 1, tzinfo=UTC)
        self.instruments = instruments.load()
        self.archive = FolderArchive(folder / "archive", self.instruments, now=self._tick)
        self._random = np.random.default_rng(42)

    def bias(self, *, image: np.ndarray | None = None, level: float = 300.0, **changes: Any) -> Frame:
        """Add a raw bias: noise about `level`, or `image`; `changes` to its record."""
        if image is None:
            image = np.round(self._random.normal(level, NOISE, SHAPE)).astype(np.uint16)
        record = Frame(
            frame_class="RawBiasFrame",
            instrument="WFI",
            chip="ccd50",
            night=NIGHT,
            date_obs=START + (self._tick() - datetime(2026, 1, 1, tzinfo=UTC)),
            readout="1x1",
            values=STRIPS.to_values(),
        )
        return self.add(record.evolve(**changes), image)

    def add(self, record: Frame, image: np.ndarray | None = None) -> Frame:
        """Add any frame, with its image where it has one."""
        if image is None:
            return self.archive.save(record)
        file = self._folder / "new.fits"
        fits.PrimaryHDU(image).writeto(file)
        return self.archive.save(record, file)

    def plan(self, recipe: str, **options: Any) -> list[TaskSpec]:
        """Plan a recipe for the night; `options` by long name."""
        return registry.plan(recipe, self._options(options), self.archive, self.scratch(), self.instruments)

    def run(self, recipe: str, **options: Any) -> list[Frame]:
        """Plan a recipe, run all its tasks, and return what they made, in order."""
        makes = registry.find(recipe).makes
        before = {frame.id for frame in self.products(makes)}
        for spec in self.plan(recipe, **options):
            registry.run(recipe, self._options(options), self.archive, self.scratch(), spec, known=self.instruments)
        return [frame for frame in self.products(makes) if frame.id not in before]

    def products(self, frame_class: str) -> list[Frame]:
        """Return all products of a class."""
        return self.archive.select(frame_class, Selection(instrument="WFI"))

    def image(self, product: Frame) -> np.ndarray:
        """Return the pixels of a product."""
        return np.asarray(fits.getdata(self.archive.open(product)))

    def scratch(self) -> Path:
        """Return a new empty folder."""
        folder = self._folder / f"scratch-{self._tick():%j-%H%M%S}"
        folder.mkdir()
        return folder

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        selection = {} if "raw_filenames" in options else {"date": NIGHT.isoformat()}
        return {"instrument": "WFI", **selection, **options}

    def _tick(self) -> datetime:
        self._clock += timedelta(seconds=1)
        return self._clock
