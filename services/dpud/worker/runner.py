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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpud.worker import leftovers, linux
from dpud.worker.channel import Channel
from dpud.worker.confinement import Confinement
from dpud.worker.output import Outlet, captured

if TYPE_CHECKING:
    from collections.abc import Callable

#: Longest message, and longest end of a traceback, of a failure.
MESSAGE = 500
DETAIL = 8 * 1024 - 256
#: Tasks of a plan in one message.
PLANNED = 500


def serve(descriptor: int, folder: Path) -> None:
    """Run what the agent orders, until it is gone. `folder` is home between the tasks."""
    ours = socket.socket(fileno=descriptor)
    ours.set_inheritable(False)
    channel = Channel(ours)
    # Opened now: later it is not among what stays open.
    high_water = _open_high_water()
    process: TaskRunner | None = None
    os.chdir(folder)
    while (order := channel.receive()) is not None:
        if order["do"] == "preload":
            _preload(order["modules"])
            continue
        if process is None:
            # Before any thread is started: a thread that runs already would stay outside.
            Confinement.from_message(order["confinement"]).enter()
            process = TaskRunner(channel, folder, high_water)
        channel.send({"end": process.run(order)})


def _preload(modules: list[str]) -> None:
    """Import what most tasks need, before it is known which one comes. What is not installed is left out."""
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)


class TaskRunner:
    """Runs the tasks of one user and one tree of code in this process."""

    def __init__(self, channel: Channel, folder: Path, high_water: int | None) -> None:
        self._channel = channel
        self._folder = folder
        self._outlet = Outlet(channel)
        self._high_water = high_water
        self._tree: str | None = None

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """Run one task and return how it ended."""
        scratch = Path(order["scratch"])
        self._settle(order, scratch)
        before = leftovers.state()
        used = _cpu_s()
        with captured(self._outlet):
            outcome = _outcome(lambda: self._work(order, scratch))
            with suppress(OSError):
                linux.flush_c_output()
        outcome["cpu_s"] = _cpu_s() - used
        outcome["peak_mib"] = _peak_mib()
        outcome["leftovers"] = leftovers.differences(before, leftovers.state())
        os.chdir(self._folder)
        return outcome

    def _settle(self, order: dict[str, Any], scratch: Path) -> None:
        """Make this process ready for the task."""
        os.chdir(scratch)
        os.environ.update(order["environment"])
        tempfile.tempdir = None
        sys.pycache_prefix = order["environment"]["PYTHONPYCACHEPREFIX"]
        for name, soft in order["limits"].items():
            _limit(getattr(resource, name), soft)
        if self._high_water is not None:
            with suppress(OSError):
                # The high-water mark of this process's memory begins anew.
                os.pwrite(self._high_water, b"5", 0)
        if self._tree is None:
            self._tree = order["tree"]
            if self._tree:
                sys.path.insert(0, self._tree)

    def _work(self, order: dict[str, Any], scratch: Path) -> None:
        registry = importlib.import_module("dpu_recipes.registry")
        from dpud.worker.channel_archive import ChannelArchive

        archive = ChannelArchive(self._channel)
        if order["plan"]:
            specs = registry.plan(order["recipe"], order["options"], archive, scratch)
            self._send_plan([spec.to_dict() for spec in specs])
        else:
            task = importlib.import_module("dpu_recipes.task")
            spec = task.TaskSpec.from_dict(order["spec"])
            registry.run(order["recipe"], order["options"], archive, scratch, spec)

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
    try:
        return "".join(traceback.format_exception(error))
    except Exception as worse:  # noqa: BLE001 (as above)
        return f"{type(error).__name__} (its traceback cannot be had: {type(worse).__name__})\n"


def _limit(kind: int, soft: int) -> None:
    """Set a soft limit, where it can be had below the hard one."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, (soft, hard))


def _open_high_water() -> int | None:
    """Return where Linux is told to measure the most memory that this process had anew; None elsewhere."""
    with suppress(OSError):
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    return None


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_mib() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
