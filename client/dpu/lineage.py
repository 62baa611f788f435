"""What a product was made from, or what was made from it, as a tree and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu.pedigree import Pedigree
from dpu.products import find_frame, to_product
from dpu_api.v1.archive_pb2 import TraceLineageRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dpu.link import Link, Services
    from dpu.products import Product
    from dpu_api.v1 import archive_pb2

DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, repr=False)
class Lineage(Pedigree):
    """A pedigree as the prompt gives it: it shows itself as a tree, and can be drawn."""

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def plot(self, file: str | Path) -> Path:
        """Draw it as PNG and return the path. Raises UsageError where it cannot be written, or nothing can draw."""
        from dpu.lineage_plot import draw

        return draw(self, file)


def trace(link: Link, what: object, *, progeny: bool = False) -> Lineage:
    """Return what a frame was made from; with `progeny`, what was made from it. Raises NotFound and UsageError."""
    frame = find_frame(link, what)
    request = TraceLineageRequest(id=frame.id, job_id=frame.ref.job_id, progeny=progeny)

    def ask(services: Services) -> list[archive_pb2.TraceLineageResponse]:
        return list(services.archive.TraceLineage(request, timeout=DEADLINE_S))

    answers = link.attempt(ask)
    frames = {item.id: to_product(item) for answer in answers for item in answer.frames}
    links = [item for answer in answers for item in answer.links]
    return Lineage(
        product=frames[frame.id],
        frames=frames,
        branches=_branches(frames, links, progeny=progeny),
        progeny=progeny,
        digests={item.input: item.digest for item in links},
    )


def _branches(
    frames: Mapping[str, Product], links: list[archive_pb2.Link], *, progeny: bool
) -> Mapping[str, tuple[str, ...]]:
    """Return the next generation of each frame: inputs as the product names them, then calibrations that it used."""
    found: dict[str, list[str]] = {}
    for item in links:
        near, far = (item.input, item.product) if progeny else (item.product, item.input)
        found.setdefault(near, []).append(far)

    def place(near: str, far: str) -> tuple[int, str]:
        inputs = frames[near].inputs if near in frames and not progeny else ()
        name = frames[far].file_name if far in frames else far
        return inputs.index(far) if far in inputs else len(inputs), name

    return {near: tuple(sorted(far, key=lambda name: place(near, name))) for near, far in found.items()}
