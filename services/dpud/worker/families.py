"""Which processes descend from which: asked again and again for every task that runs, and read once for all of them."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Less than the time between two looks at one task. To read them takes time by the number of all processes.
FRESH_S = 0.2


class Families:
    """The processes of this machine by their parents; threads may ask at the same time."""

    def __init__(self, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._read_at = float("-inf")
        self._children: Mapping[int, list[int]] = {}
        self._reading = threading.Lock()

    def descendants(self, pid: int) -> list[int]:
        """Return the children of a process, theirs, and so on: as they were at most `fresh_s` ago."""
        children = self._known()
        found: dict[int, None] = {}
        waiting = [pid]
        while waiting:
            born = [each for each in children.get(waiting.pop(), ()) if each not in found]
            found |= dict.fromkeys(born)
            waiting += born
        return list(found)

    def _known(self) -> Mapping[int, list[int]]:
        with self._reading:
            if time.monotonic() - self._read_at > self._fresh_s:
                self._children, self._read_at = _children(), time.monotonic()
            return self._children


def _children() -> dict[int, list[int]]:
    """Return the processes that there are, by their parents."""
    children: dict[int, list[int]] = defaultdict(list)
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 (a Path would be made for nothing)
        # One that ends meanwhile is nobody's.
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 (as above)
            # Behind the program's name, which may hold anything: the state, and the parent.
            _, parent, _ = file.read().rpartition(b")")[2].split(None, 2)
            children[int(parent)].append(int(name))
    return dict(children)
