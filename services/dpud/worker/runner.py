"""The task process: waits for orders on its channel, runs one task after the other, says how each ended.

Only the standard library is loaded before the first order. What is said to the agent: `lines` that were printed,
`ask` for the archive, `tasks` of a plan, and last `end`.
"""

from __future__ import annotations

import importlib
import os
import resource
import socket
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpud.worker import bytecode, leftovers, linux, scratch
from dpud.worker.channel import Channel, Turn
from dpud.worker.confinement import Confinement
from dpud.worker.output import Captured, Outlet, has_printed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

#: Longest message, and longest end of a traceback, of a failure.
MESSAGE = 500
DETAIL = 8 * 1024 - 256
#: Tasks of a plan in one message.
PLANNED = 500
#: Modules by which shipped code is loaded and called, and those by which that finds and calls a recipe.
_OURS = frozenset({__name__, bytecode.__name__, "importlib", "importlib._bootstrap", "importlib._bootstrap_external"})
_CALLERS = _OURS | {"dpu_recipes.registry"}
#: How often it is looked whether the agent has read the pipes.
READ_S = 0.0005


def serve(channel: int, tickets: int, folder: Path) -> None:
    """Run what the agent orders, until it is gone, or a task has spoilt this process. `folder` is home."""
    orders, turn = Channel(_ours(channel)), Turn(_ours(tickets))
    # Opened now: later it is not among what stays open.
    high_water = _open_high_water()
    process: TaskRunner | None = None
    os.chdir(folder)
    while (order := orders.order()) is not None:
        if order["do"] == "preload":
            _preload(order["modules"])
            continue
        if process is None:
            # Before any thread is started: a thread that runs already would stay outside.
            Confinement.from_message(order["confinement"]).enter()
            process = TaskRunner(orders, folder / scratch.HOME, high_water)
        for task in order["tasks"]:
            if turn.came(task["number"]):
                end = process.run(order, task)
                end["printed"] = has_printed()
                orders.send({"end": end})
                if end["leftovers"]:
                    return
                # What its C code put into the pipes is to be taken as its own, not as the next one's.
                while end["printed"] and has_printed():
                    time.sleep(READ_S)


def _ours(descriptor: int) -> socket.socket:
    """Return an inherited socket, which no program that a task starts inherits in turn."""
    inherited = socket.socket(fileno=descriptor)
    inherited.set_inheritable(False)
    return inherited


def _preload(modules: list[str]) -> None:
    """Import what most tasks need, before it is known which one comes. What is not installed is left out."""
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)


class TaskRunner:
    """Runs the tasks of one user and one tree of code in this process."""

    def __init__(self, channel: Channel, home: Path, high_water: int | None) -> None:
        self._channel = channel
        self._scratch = scratch.Scratch(home)
        self._high_water = high_water
        self._captured = Captured(Outlet(channel))
        self._tree: str | None = None
        self._instruments: str | None = None
        self._environment: dict[str, str] = {}
        # How the last task left this process: as it found it, and so the next one finds it.
        self._state: leftovers.State | None = None
        self._settled_mib, self._peak_mib = 0, 1

    def run(self, order: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
        """Run one task of an order and return how it ended."""
        self._settle(order)
        before = self._state or leftovers.state()
        used_s, _ = _used()
        with self._captured:
            outcome = _outcome(partial(self._work, task))
            with suppress(OSError):
                linux.flush_c_output()
        after_s, self._peak_mib = _used()
        outcome["ended"] = time.monotonic()
        outcome["cpu_s"], outcome["peak_mib"] = after_s - used_s, self._peak_mib
        self._state = leftovers.state()
        outcome["leftovers"] = leftovers.differences(before, self._state)
        self._scratch.clear()
        return outcome

    def _settle(self, order: dict[str, Any]) -> None:
        """Make this process ready for a task."""
        self._scratch.prepare()
        self._instruments = order["instruments"]
        tempfile.tempdir = None
        for name, soft in order["limits"].items():
            kind = getattr(resource, name)
            if resource.getrlimit(kind)[0] != soft:
                _limit(kind, soft)
        if self._high_water is not None and self._peak_mib > self._settled_mib:
            with suppress(OSError):
                # The high-water mark of this process's memory begins anew.
                os.pwrite(self._high_water, b"5", 0)
            self._settled_mib = _used()[1]
        if self._environment != order["environment"]:
            self._environment, self._state = order["environment"], None
            os.environ.update(self._environment)
        if self._tree is None:
            self._tree, self._state = order["tree"], None
            if self._tree:
                bytecode.keep(self._tree, order["bytecode"])
                sys.path.insert(0, self._tree)
            if order["packages"]:
                # Last: they add to what is installed, and take the place of nothing.
                sys.path.append(order["packages"])

    def _work(self, task: dict[str, Any]) -> None:
        registry = importlib.import_module("dpu_recipes.registry")
        from dpud.worker.channel_archive import ChannelArchive

        folder = self._scratch.path
        if task["plan"]:
            archive = ChannelArchive(self._channel)
            specs = registry.plan(task["recipe"], task["options"], archive, folder, **self._known())
            self._send_plan([spec.to_dict() for spec in specs])
        else:
            module = importlib.import_module("dpu_recipes.task")
            spec = module.TaskSpec.from_dict(task["spec"])
            archive = ChannelArchive(self._channel, spec.inputs)
            registry.run(task["recipe"], task["options"], archive, folder, spec, **self._known())

    def _known(self) -> dict[str, Any]:
        """Return the instruments, as what is asked of the recipes, where there are more than ship with them."""
        if self._instruments is None:
            return {}
        return {"known": importlib.import_module("dpu_recipes.instruments").load(Path(self._instruments))}

    def _send_plan(self, tasks: list[dict[str, Any]]) -> None:
        for start in range(0, len(tasks), PLANNED):
            self._channel.send({"tasks": tasks[start : start + PLANNED]})


def _outcome(work: Callable[[], None]) -> dict[str, Any]:
    """Do the work and return how it ended: `status`, and for a failure `message` and `detail`."""
    try:
        work()
    except MemoryError as error:
        return _failure("memory", _one_line(error), error)
    except (ImportError, SyntaxError) as error:
        return _failure("unloadable", f"the recipe could not be loaded: {_named(error)}", error)
    except BaseException as error:  # noqa: BLE001 (whatever a recipe raises is data)
        if _is_refusal(error):
            return _failure("refused", _one_line(error), None)
        return _failure("raised", _named(error), error)
    return {"status": "ended"}


def _failure(status: str, message: str, error: BaseException | None) -> dict[str, Any]:
    """Return the failure as data; an error's traceback goes to the log too."""
    detail = ""
    if error is not None:
        trace = _trace(error)
        detail = trace[-DETAIL:]
        with suppress(Exception):
            sys.stderr.write(trace)
    return {"status": status, "message": message[:MESSAGE], "detail": detail}


def _is_refusal(error: BaseException) -> bool:
    """Return whether a recipe, or the archive, refused on purpose, with one clear line."""
    known = [("dpu_recipes.task", "RecipeError"), ("dpu_recipes.archive", "ArchiveError")]
    kinds = tuple(getattr(sys.modules.get(module), name, ()) for module, name in known)
    return isinstance(error, kinds)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as worse:  # noqa: BLE001 (an exception that cannot be printed is one of the strange ones)
        text = f"(its text cannot be had: {type(worse).__name__})"
    return " ".join(text.split())


def _trace(error: BaseException) -> str:
    """Return the traceback of an error, from the recipe on."""
    try:
        return "".join(traceback.format_exception(type(error), error, _from_recipe_on(error)))
    except Exception as worse:  # noqa: BLE001 (as above)
        return f"{type(error).__name__} (its traceback cannot be had: {type(worse).__name__})\n"


def _from_recipe_on(error: BaseException) -> TracebackType | None:
    """Return the frames of an error without those by which its recipe was found, loaded and called."""
    whole = error.__traceback__
    shipped = _behind(whole, _OURS)
    if shipped is None:
        # Code that could not even be loaded is named by the error itself; anything else is a fault of ours.
        return None if isinstance(error, ImportError | SyntaxError) else whole
    return _behind(shipped, _CALLERS) or shipped


def _behind(frames: TracebackType | None, modules: frozenset[str]) -> TracebackType | None:
    """Return the frames from the first on that is in none of the modules."""
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in modules:
        frames = frames.tb_next
    return frames


def _open_high_water() -> int | None:
    """Return where Linux is told to measure the most memory that this process had anew; None elsewhere."""
    with suppress(OSError):
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    return None


def _limit(kind: int, soft: int) -> None:
    """Set a soft limit, where it can be had below the hard one."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, (soft, hard))


def _used() -> tuple[float, int]:
    """Return the processor time of this process and its children so far, seconds, and its peak memory, MiB."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, own.ru_maxrss // 1024
