"""How many tasks of a job stand where, by the five letters under which people know them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """N/E/A/S/U: ended normally, with an error, aborted, submitted (waiting or running), unknown."""

    normal: int = 0
    error: int = 0
    aborted: int = 0
    submitted: int = 0
    unknown: int = 0

    @property
    def open(self) -> int:
        """How many tasks have not settled."""
        return self.submitted + self.unknown

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return self.normal + self.error + self.aborted + self.submitted + self.unknown

    def add(self, letter: str, change: int) -> None:
        """Change one of the five; the empty letter counts nothing."""
        if letter:
            setattr(self, letter, getattr(self, letter) + change)
