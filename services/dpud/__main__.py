"""`python -m dpud SERVICE` and `dpud SERVICE`: start a service, or stop the embedded DPU."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import math
import os
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import dpu
from dpu import local, tracing
from dpu.errors import DpuError
from dpud.hosting.caller import Role
from dpud.hosting.settings import BadSetting, Environment

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICES = ("scheduler", "worker", "logs", "codeship", "archive", "web")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 well, 1 failed, 2 used wrongly."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except BadSetting as error:
        print(f"dpud {options.command}: {error}", file=sys.stderr)
        return 2
    except DpuError as error:
        print(f"dpud {options.command}: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"dpud {options.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dpud", description="The services of the DPU.")
    parser.add_argument("--version", action="version", version=f"dpud {dpu.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in SERVICES:
        service = commands.add_parser(name, help=f"the {name} service, with its settings from the environment")
        service.set_defaults(run=_serve)
    embedded = commands.add_parser("embedded", help="the whole DPU of one user on one machine")
    _add_home(embedded)
    embedded.add_argument("--slots", type=_slots, default=None, help="tasks at a time (default: the processors)")
    embedded.add_argument("--idle-hours", type=_hours, default=8.0, help="end after so long without a job or a call")
    embedded.set_defaults(run=_embedded)
    stop = commands.add_parser("stop", help="end the embedded DPU; nothing queued or made is lost")
    _add_home(stop)
    stop.set_defaults(run=_stop)
    token = commands.add_parser("token", help="make a token: the secret on standard output, its row on standard error")
    token.add_argument("user")
    token.add_argument("--project", action="append", default=[], help="a project of the user; '*' is any")
    token.add_argument("--role", action="append", default=[], choices=[role.value for role in Role])
    token.set_defaults(run=_token)
    doctor = commands.add_parser("doctor", help="say whether a service can do its work, and what to do where it cannot")
    doctor.add_argument("service", choices=SERVICES)
    doctor.set_defaults(run=_doctor)
    health = commands.add_parser("health", help="say whether a service of this machine answers, by its own settings")
    health.add_argument("service", choices=[service for service in SERVICES if service != "worker"])
    health.set_defaults(run=_health)
    return parser


def _slots(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of hours above 0")
    return hours


def _add_home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, default=None, help="its folder (default: $DPU_HOME, ~/.local/state/dpu)")


def _serve(options: argparse.Namespace) -> None:
    # As process 1 of a container nothing else would end this one before the service itself heeds signals.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    from dpud.hosting.logsetup import set_up_logging

    environment = Environment(os.environ)
    readable = environment.get("DPU_LOG_FORMAT", str, "json") == "text"
    set_up_logging(options.command, readable=readable or sys.stderr.isatty())
    if environment.get("DPU_END_WITH_PARENT", str, ""):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    tracing.set_up(options.command, os.environ)
    service = importlib.import_module(f"dpud.{options.command}.main")
    asyncio.run(service.main(environment))


def _end_with_parent() -> None:
    """End this process when its parent is gone: the standard input is a pipe that only the parent holds.

    At once, since a fresh DPU may start in the same home: what ran is leased again, and nothing half-written counts.
    """
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def _embedded(options: argparse.Namespace) -> None:
    from dpud import embedded
    from dpud.hosting.logsetup import set_up_logging

    set_up_logging("embedded")
    settings = embedded.Settings(
        home=local.Home(options.home or local.default_home()),
        slots=options.slots or local.default_slots(),
        idle_s=options.idle_hours * 3600,
    )
    asyncio.run(embedded.main(settings))


def _stop(options: argparse.Namespace) -> None:
    home = options.home or local.default_home()
    there = local.stop(home)
    print(f"The DPU in {home} has ended." if there else f"No DPU runs in {home}.")


def _token(options: argparse.Namespace) -> None:
    from dpud.hosting.tokens import token_row

    secret = secrets.token_urlsafe(32)
    projects = options.project or ["default"]
    roles = options.role or [Role.USER.value]
    print(secret)
    print("# append this to DPU_TOKENS_FILE; the secret itself is stored nowhere", file=sys.stderr)
    print(token_row(secret, options.user, projects, roles), file=sys.stderr)


def _doctor(options: argparse.Namespace) -> int:
    from dpud import doctor

    findings = []
    for finding in doctor.examine(options.service, os.environ):
        findings.append(finding)
        print("ok  " if finding.good else "BAD ", finding.text)
    return int(not all(finding.good for finding in findings))


def _health(options: argparse.Namespace) -> None:
    from dpud import health

    health.ask(options.service, Environment(os.environ))


if __name__ == "__main__":
    sys.exit(main())
