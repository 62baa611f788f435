"""How the chips of a job fare: one state and five counts each, of all its tasks there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu_api.v1.job_pb2 import TaskState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dpu_api.v1.job_pb2 import Task

#: What stands for a chip with tasks in several states: the first of them. With the sign that tells it without colour.
SIGNS = {
    "FAILED": "✕",
    "LOST": "?",
    "CANCELLED": "⊘",
    "ABORTED": "⊖",
    "RUNNING": "▶",
    "QUEUED": "…",
    "SUCCEEDED": "✓",
}


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip, as far as a job is concerned with it."""

    name: str
    #: Of SIGNS.
    state: str
    #: How many tasks are in which state, '3 succeeded, 1 failed'.
    words: str

    @property
    def sign(self) -> str:
        """What tells the state without colour."""
        return SIGNS[self.state]


def chips(tasks: Iterable[Task], names: Collection[str]) -> list[Chip]:
    """Return the chips that tasks are about, in the order of `names`, then others in that of the tasks."""
    found: dict[str, Counter[str]] = {}
    for task in tasks:
        if chip := chip_of(task, names):
            found.setdefault(chip, Counter())[TaskState.Name(task.state).removeprefix("TASK_STATE_")] += 1
    ordered = [name for name in names if name in found] + [name for name in found if name not in names]
    return [_chip(name, found[name]) for name in ordered]


def chip_of(task: Task, names: Collection[str]) -> str:
    """Return the chip that a task is about: its label has it, with what tells it from others, 'ccd50 #842'."""
    words = task.label.split()
    return "" if task.plan or not words else next((word for word in words if word in names), words[0])


def _chip(name: str, states: Counter[str]) -> Chip:
    ranked = [state for state in SIGNS if states[state]]
    return Chip(name, ranked[0], ", ".join(f"{states[state]} {state.lower()}" for state in ranked))
