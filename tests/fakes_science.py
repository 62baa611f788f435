"""An archive with the frames of a night, simulated or real, and the recipes run over it as a task's process does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpu_recipes import registry
from dpu_recipes.archive import Selection
from dpu_recipes.archive_folder import FolderArchive
from dpu_recipes.frames import read_image
from dpu_recipes.instruments import load

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame

INSTRUMENTS = load()


@dataclass(frozen=True)
class Bench:
    """An archive, and the recipes run over it."""

    archive: FolderArchive
    instrument: str
    night: str
    scratch: Path

    def run(self, recipe: str, **options: Any) -> list[Frame]:
        """Run a recipe for every chip and return what it made, in order of chip."""
        frame_class = registry.find(recipe).makes
        before = {frame.id for frame in self.products(frame_class)}
        asked = {"instrument": self.instrument, "date": self.night, **options}
        if "raw_filenames" in options:
            del asked["date"]
        for spec in registry.plan(recipe, asked, self.archive, self.scratch):
            registry.run(recipe, asked, self.archive, self.scratch, spec)
        return [frame for frame in self.products(frame_class) if frame.id not in before]

    def products(self, frame_class: str) -> list[Frame]:
        """Return the products of a class."""
        return self.archive.select(frame_class, Selection(instrument=self.instrument, night=self.night))

    def pixels(self, product: Frame) -> NDArray[Any]:
        """Return a product's image."""
        return read_image(self.archive.open(product))[0]


def a_bench(folder: Path, instrument: str, night: str, files: list[Path]) -> Bench:
    """Return a bench over a new archive with the frames of `files`."""
    archive = FolderArchive(folder / "archive", INSTRUMENTS)
    for file in files:
        archive.ingest(file)
    (folder / "scratch").mkdir()
    return Bench(archive=archive, instrument=instrument, night=night, scratch=folder / "scratch")
