"""The file that a session's logs are appended to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path


class Logs(str):
    """The text of some logs. IPython does not show it again: `get_logs` has printed it."""

    __slots__ = ()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 (IPython's)
        """Say how much there is, for IPython."""
        printer.text("..." if cycle else f"<{len(self.splitlines())} lines of logs>")


@dataclass(frozen=True, slots=True)
class SessionLog:
    """One `YYYY-MM-DDTHH-MM-SS.log`, named by the session's start, in the folder where it started."""

    path: Path

    @classmethod
    def of(cls, folder: Path, start: datetime) -> SessionLog:
        """Return the log of a session."""
        return cls(folder / f"{start:%Y-%m-%dT%H-%M-%S}.log")

    def append(self, text: str, say: Callable[[str], None]) -> None:
        """Append `text`; where that cannot be, say so in one line."""
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            say(f"The logs cannot be kept in {str(self.path)!r} ({error.strerror}): they are only printed")
