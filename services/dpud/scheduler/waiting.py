"""The tasks that wait for a slot: by user, plans first, then by priority and age."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence


class Queue:
    """The waiting tasks of one job, in the order in which they came.

    A list of tasks comes as consecutive numbers, before any of them can come back: it is kept by its two ends.
    """

    __slots__ = ("_back", "_first", "_gone", "_last")

    def __init__(self) -> None:
        #: New tasks are those from `_first` to before `_last`, but for those that are gone.
        self._first = self._last = 0
        self._gone: set[int] = set()
        #: Tasks that wait again.
        self._back: OrderedDict[int, None] = OrderedDict()

    def add(self, tasks: Sequence[int]) -> None:
        """Put tasks at the end."""
        if isinstance(tasks, range) and not self:
            self._first, self._last = tasks.start, tasks.stop
        else:
            self._back.update(dict.fromkeys(tasks))

    def remove(self, task: int) -> None:
        """Take a task out; it must be there."""
        if task in self._back:
            del self._back[task]
            return
        if task not in self:
            raise KeyError(task)
        self._gone.add(task)
        while self._first in self._gone:
            self._gone.remove(self._first)
            self._first += 1

    def __iter__(self) -> Iterator[int]:
        """Yield the tasks in order."""
        new: Iterable[int] = range(self._first, self._last)
        if self._gone:
            new = (task for task in new if task not in self._gone)
        return chain(new, self._back)

    def __contains__(self, task: object) -> bool:
        return task in self._back or (task in range(self._first, self._last) and task not in self._gone)

    def __len__(self) -> int:
        return self._last - self._first - len(self._gone) + len(self._back)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes


@dataclass(slots=True)
class Line:
    """What waits of one user."""

    #: Plan tasks (job, task): small, and first of their user's.
    plans: OrderedDict[tuple[int, int], None] = field(default_factory=OrderedDict)
    #: (-priority, job) of the jobs below, sorted.
    order: list[tuple[int, int]] = field(default_factory=list)
    #: Waiting tasks of each job, in the order in which they came.
    jobs: dict[int, Queue] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[int, list[int] | Queue]]:
        """Yield (job, its waiting tasks) in order of their turn."""
        for job, task in self.plans:
            yield job, [task]
        for _, job in self.order:
            yield job, self.jobs[job]

    def __len__(self) -> int:
        """Return how many jobs wait: the plan of one is alone."""
        return len(self.plans) + len(self.order)

    def place(self, priority: int, job: int) -> int:
        """Return how many jobs come before one that waits."""
        if job in self.jobs:
            return len(self.plans) + bisect_left(self.order, (-priority, job))
        return next(place for place, (number, _) in enumerate(self.plans) if number == job)

    def some(self, number: int, step: int) -> list[int]:
        """Return every so manieth of the first jobs, without a look at those between."""
        plans = islice(self.plans, 0, number, step)
        rest = self.order[: max(0, number - len(self.plans)) : step]
        return [*(job for job, _ in plans), *(job for _, job in rest)]

    def by_age(self) -> Iterator[tuple[int, list[int] | Queue]]:
        """Yield (job, its waiting tasks) of the oldest job."""
        plan = min(self.plans, default=None)
        job = min(self.jobs, default=None)
        if plan is not None and (job is None or plan[0] <= job):
            yield plan[0], [plan[1]]
        elif job is not None:
            yield job, self.jobs[job]

    def of(self, job: int, newest: int) -> Collection[int]:
        """Return the waiting tasks of a job; its plan, where that waits, is alone and its `newest` task."""
        return [newest] if (job, newest) in self.plans else self.jobs.get(job, ())

    def drop(self, priority: int, job: int) -> None:
        """Take out a job; it must be there."""
        del self.jobs[job]
        del self.order[bisect_left(self.order, (-priority, job))]

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self.plans and not self.jobs


@dataclass(slots=True)
class Waiting:
    """All waiting tasks."""

    lines: dict[str, Line] = field(default_factory=dict)

    def add(self, user: str, priority: int, job: int, tasks: Sequence[int], *, plan: bool) -> None:
        """Put tasks, at least one, at the end of their job's."""
        line = self.lines.setdefault(user, Line())
        if plan:
            line.plans.update(((job, task), None) for task in tasks)
            return
        if job not in line.jobs:
            line.jobs[job] = Queue()
            insort(line.order, (-priority, job))
        line.jobs[job].add(tasks)

    def remove(self, user: str, priority: int, job: int, task: int, *, plan: bool) -> None:
        """Take a task out; it must be there."""
        line = self.lines[user]
        if plan:
            del line.plans[job, task]
        else:
            line.jobs[job].remove(task)
            if not line.jobs[job]:
                line.drop(priority, job)
        if line.empty:
            del self.lines[user]

    def of(self, user: str, job: int, newest: int) -> Collection[int]:
        """Return the waiting tasks of a job, whose last task is `newest`."""
        line = self.lines.get(user)
        return line.of(job, newest) if line else ()

    def drop(self, user: str, priority: int, job: int, newest: int) -> int:
        """Take out all that waits of a job, whose last task is `newest`; return how many tasks that were."""
        waited = len(self.of(user, job, newest))
        if not waited:
            return 0
        line = self.lines[user]
        if (job, newest) in line.plans:
            del line.plans[job, newest]
        else:
            line.drop(priority, job)
        if line.empty:
            del self.lines[user]
        return waited

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Yield (user, job, task) of all that waits."""
        for user, line in self.lines.items():
            for job, tasks in line:
                for task in tasks:
                    yield user, job, task
