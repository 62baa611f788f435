"""Which lines of a log are wanted, as it is said at the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu.errors import BadOption
from dpu_api.v1.logs_pb2 import LogLevel, ReadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

#: By name, from the least.
LEVELS = {name.removeprefix("LOG_LEVEL_").lower(): number for name, number in LogLevel.items() if number}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuestion:
    """What is left out has no say: without any word, every line."""

    #: Only the last so many; 0: all.
    tail: int = 0
    #: An RE2 pattern that is found in the line.
    grep: str = ""
    chips: tuple[str, ...] = ()
    #: The least level, a LogLevel.
    level: int = 0

    @classmethod
    def of(cls, *, tail: int = 0, grep: str = "", chip: str | Iterable[str] = (), level: str = "") -> LogQuestion:
        """Return the question that these words ask. Raises BadOption."""
        if isinstance(tail, bool) or not isinstance(tail, int) or not 0 <= tail < 2**63:
            raise BadOption(f"tail={tail!r}: must be a number of lines, 0 for all of them")
        if not isinstance(grep, str):
            raise BadOption(f"grep={grep!r}: must be a pattern, as text")
        if level and str(level).lower() not in LEVELS:
            raise BadOption(f"level={level!r}: must be one of {', '.join(LEVELS)}")
        chips = (chip,) if isinstance(chip, str) else tuple(chip)
        return cls(
            tail=tail,
            grep=grep,
            chips=tuple(str(each) for each in chips if each),
            level=LEVELS[str(level).lower()] if level else 0,
        )

    @property
    def selects(self) -> bool:
        """Whether lines may be left out."""
        return self != LogQuestion()

    def request(self, job_id: int, *, follow: bool) -> ReadRequest:
        """Return what to ask the log service; a log that is not followed leaves earlier attempts out."""
        return ReadRequest(
            job_id=job_id,
            follow=follow,
            newest_attempt=not follow,
            tail=self.tail,
            pattern=self.grep,
            chips=self.chips,
            level=LogLevel.ValueType(self.level),
        )


EVERYTHING = LogQuestion()
