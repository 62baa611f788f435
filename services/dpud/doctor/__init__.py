"""Whether a service can do its work with these settings, on this machine, beside the others; and what to do if not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import dpu
from dpud.doctor import machine, means, peers, tasks
from dpud.doctor.finding import Finding, Patient
from dpud.hosting.settings import BadSetting, Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: In the order in which an operator mends things.
LOOKS = (*machine.LOOKS, *means.LOOKS, *peers.LOOKS, *tasks.LOOKS)


def examine(service: str, values: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is found; nothing is changed but a port that is tried."""
    environment = Environment(values)
    try:
        settings = importlib.import_module(f"dpud.{service}.main").Settings.read(environment)
    except BadSetting as error:
        yield Finding(good=False, text=f"{error}: mend this setting first (docs/reference/services.md)")
        return
    yield Finding(good=True, text=f"the settings of {service} {dpu.__version__} make sense")
    for look in LOOKS:
        yield from look(Patient(service, environment, settings))
