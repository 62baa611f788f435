"""What is known of tasks from earlier ones: seconds and memory, by project, recipe and instrument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dpud.scheduler.catalogue import Stage

#: A mean goes back over about so many tasks: code changes, and machines do.
RECENT = 20
#: Of more kinds, the one that was met longest ago is forgotten.
MAX_KINDS = 10_000


class Kind(NamedTuple):
    """Tasks that are alike: what other projects' code does is no guide."""

    project: str
    recipe: str
    instrument: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What tasks of one kind took; zero: nobody knows yet."""

    seconds: float = 0.0
    runs: int = 0
    #: Where less was not enough: what was.
    memory_mib: int = 0

    def after(self, seconds: float, memory_mib: int) -> Figures:
        """Return the figures after one more task; `memory_mib` is 0 where what it was given first was enough."""
        runs = min(self.runs + 1, RECENT)
        mean = self.seconds + (seconds - self.seconds) / runs
        return Figures(mean, runs, max(self.memory_mib, memory_mib))


NONE = Figures()


def learn(known: dict[Kind, Figures], kind: Kind, seconds: float, memory_mib: int = 0) -> None:
    """Take in a task that ended well."""
    known[kind] = known.pop(kind, NONE).after(seconds, memory_mib)
    if len(known) > MAX_KINDS:
        del known[next(iter(known))]


def seconds_of(known: dict[Kind, Figures], kind: Kind, stage: Stage) -> float:
    """Return how long a task takes that does not say so itself: as those before it, else as its recipe declares."""
    return known.get(kind, NONE).seconds or stage.seconds


def memory_of(known: dict[Kind, Figures], kind: Kind, declared_mib: int) -> int:
    """Return the memory that a task is given: what was declared, or more where that was not enough before."""
    return max(declared_mib, known.get(kind, NONE).memory_mib)
