"""The tasks that wait for a slot: by user, plans first, then by priority and age."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(slots=True)
class Line:
    """What waits of one user."""

    #: Plan tasks (job, task): small, and first of their user's.
    plans: OrderedDict[tuple[int, int], None] = field(default_factory=OrderedDict)
    #: (-priority, job) of the jobs below, sorted.
    order: list[tuple[int, int]] = field(default_factory=list)
    #: Waiting tasks of each job, in the order in which they came.
    jobs: dict[int, OrderedDict[int, None]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[int, list[int] | OrderedDict[int, None]]]:
        """Yield (job, its waiting tasks) in order of their turn."""
        for job, task in self.plans:
            yield job, [task]
        for _, job in self.order:
            yield job, self.jobs[job]

    def by_age(self) -> Iterator[tuple[int, list[int] | OrderedDict[int, None]]]:
        """Yield (job, its waiting tasks) of the oldest job."""
        plan = min(self.plans, default=None)
        job = min(self.jobs, default=None)
        if plan is not None and (job is None or plan[0] <= job):
            yield plan[0], [plan[1]]
        elif job is not None:
            yield job, self.jobs[job]

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self.plans and not self.jobs


@dataclass(slots=True)
class Waiting:
    """All waiting tasks."""

    lines: dict[str, Line] = field(default_factory=dict)

    def add(self, user: str, priority: int, job: int, tasks: Iterable[int], *, plan: bool) -> None:
        """Put tasks at the end of their job's."""
        line = self.lines.setdefault(user, Line())
        if plan:
            line.plans.update(((job, task), None) for task in tasks)
            return
        if job not in line.jobs:
            line.jobs[job] = OrderedDict()
            insort(line.order, (-priority, job))
        line.jobs[job].update(dict.fromkeys(tasks))

    def remove(self, user: str, priority: int, job: int, task: int, *, plan: bool) -> None:
        """Take a task out; it must be there."""
        line = self.lines[user]
        if plan:
            del line.plans[job, task]
        else:
            tasks = line.jobs[job]
            del tasks[task]
            if not tasks:
                del line.jobs[job]
                del line.order[bisect_left(line.order, (-priority, job))]
        if line.empty:
            del self.lines[user]

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Yield (user, job, task) of all that waits."""
        for user, line in self.lines.items():
            for job, tasks in line:
                for task in tasks:
                    yield user, job, task
