"""What a worker needs for its tasks: walls, a control group, something that installs packages."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from dpud.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.doctor.finding import Patient

ANSWER_S = 10.0


def _isolation(patient: Patient) -> Iterator[Finding]:
    if patient.service != "worker":
        return
    from dpud.worker.confinement import lacking

    missing = lacking(patient.settings.uids)
    if missing:
        yield Finding(good=False, text=f"tasks are not kept apart by {'; '.join(missing)}: docs/reference/threats.md")
    else:
        yield Finding(good=True, text="tasks can be kept apart")


def _group(patient: Patient) -> Iterator[Finding]:
    if patient.service != "worker" or patient.settings.cgroup is None:
        return
    from dpud.worker.groups import check

    said = f"DPU_WORKER_CGROUP={str(patient.settings.cgroup)!r}"
    if patient.settings.runner is not None:
        yield Finding(good=False, text=f"{said}: tasks run next door: leave it out, or DPU_WORKER_RUNNER")
        return
    try:
        check(patient.settings.cgroup)
    except OSError as error:
        yield Finding(good=False, text=f"{said}: {error}")
    else:
        yield Finding(good=True, text=f"{patient.settings.cgroup} bounds the memory of tasks")


def _packages(patient: Patient) -> Iterator[Finding]:
    if patient.service != "worker" or patient.settings.packages is None:
        return
    from dpud.worker.packages import uv

    source: str = patient.settings.packages
    said = f"DPU_WORKER_PACKAGES={source!r}"
    try:
        program = uv()
    except FileNotFoundError as error:
        yield Finding(good=False, text=f"{said}: {error}")
        return
    if why := _unreachable(source):
        yield Finding(good=False, text=f"{said}: {why}: mend it, or `off`: then tasks have what the worker has")
    else:
        yield Finding(good=True, text=f"{program} installs packages from {source}")


def _unreachable(source: str) -> str:
    """Return why no package can come from a folder or an index; empty where they can."""
    if source.startswith("/"):
        there = Path(source).is_dir() and os.access(source, os.R_OK | os.X_OK)
        return "" if there else "no folder that can be read"
    asked = urllib.request.Request(source, method="HEAD")  # noqa: S310 (settings name http and https alone)
    try:
        urllib.request.urlopen(asked, timeout=ANSWER_S).close()  # noqa: S310 (as above)
    except urllib.error.HTTPError as error:
        # Who refuses to show a list of everything may still have a page a package.
        return f"{error.code} {error.reason}" if error.code in (401, 403, 407) else ""
    except OSError as error:
        return f"no answer: {getattr(error, 'reason', error)}"
    return ""


LOOKS = (_isolation, _group, _packages)
