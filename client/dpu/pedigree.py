"""Frames and what they were made from, or what was made from them: a tree, in lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dpu.products import Product


@dataclass(frozen=True, slots=True)
class Pedigree:
    """A frame with all that it was made from, or all that was made from it."""

    product: Product
    #: All frames by identifier; what is gone or not yours to see is missing.
    frames: Mapping[str, Product]
    #: By identifier, those of the next generation, in their order.
    branches: Mapping[str, tuple[str, ...]]
    #: Whether it is what was made from the frame.
    progeny: bool
    #: Digests of the files of what is named, as it was used; '' of values.
    digests: Mapping[str, str]

    def lines(self) -> list[str]:
        """Return the tree; what comes a second time is not followed again."""
        return [self.label(self.product.id), *self._below(self.product.id, "", {self.product.id})]

    def label(self, identifier: str) -> str:
        """Return how a frame is called in the tree."""
        if (frame := self.frames.get(identifier)) is None:
            return f"(gone, or not yours to see; digest {self.digests.get(identifier, '')[:12] or 'none'})"
        marks = [] if frame.is_valid else ["is_valid=0"]
        marks += [f"quality_flags={frame.quality_flags}"] if frame.quality_flags else []
        return f"{frame.frame_class} {frame.file_name}{' (' + ', '.join(marks) + ')' if marks else ''}"

    def _below(self, identifier: str, margin: str, seen: set[str]) -> Iterator[str]:
        names = self.branches.get(identifier, ())
        for number, name in enumerate(names, 1):
            again = name in seen and self.branches.get(name)
            yield f"{margin} +--{self.label(name)}{' (see above)' if again else ''}"
            if not again:
                seen.add(name)
                yield from self._below(name, margin + (" |  " if number < len(names) else "    "), seen)
