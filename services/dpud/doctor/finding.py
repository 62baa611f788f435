"""What is looked at, and what is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from dpud.hosting.settings import Environment


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what is so, or what is wrong and what to do."""

    good: bool
    text: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A service with its settings, as they are written and as it understands them."""

    service: str
    environment: Environment
    settings: Any

    @property
    def state(self) -> Path | None:
        """Its folder; None where it keeps nothing."""
        return getattr(self.settings, "state", None)
