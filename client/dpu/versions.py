"""`awe version`: the versions of the recipes that a DPU has installed, for `dpu_aweversion`."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from dpu.errors import BadOption, BadTree, NotFound
from dpu_api.v1.codeship_pb2 import (
    GetVersionRequest,
    InstallVersionRequest,
    ListVersionsRequest,
    RemoveVersionRequest,
    Version,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dpu.link import Link


def find_version(link: Link, name: str) -> Version:
    """Return a version that the DPU has installed. Raises BadOption, which says what is there."""
    try:
        return link.ask(lambda services: services.code.GetVersion, GetVersionRequest(name=name)).version
    except NotFound as error:
        raise BadOption(f"dpu_aweversion={name!r}: {error.message}") from error


def versions(link: Link) -> list[Version]:
    """Return what is installed, by name."""
    return list(link.ask(lambda services: services.code.ListVersions, ListVersionsRequest()).versions)


def install(link: Link, name: str, checkout: Path, cache: Path) -> Version:
    """Ship a checkout and install it under a name. Raises BadTree, Conflict, NotAllowed where you are no operator."""
    from dpu.bundle import bundle, ship
    from dpu.catalogue import describe_checkout

    packed = bundle(checkout)
    catalogue = describe_checkout(checkout, cache)
    digest = link.attempt(lambda services: ship(packed, services.code, services.shipped)).digest
    request = InstallVersionRequest(name=name, digest=digest, catalogue=catalogue)
    return link.ask(lambda services: services.code.InstallVersion, request).version


def remove(link: Link, name: str) -> None:
    """Remove a version. Raises NotFound, NotAllowed."""
    link.ask(lambda services: services.code.RemoveVersion, RemoveVersionRequest(name=name))


def main(arguments: Sequence[str]) -> int:
    """Run `awe version` and return its exit code."""
    from contextlib import closing

    from dpu.config import Config
    from dpu.link import Link
    from dpu.report import Reporter

    asked = _parser().parse_args(arguments)
    config = Config.read(os.environ)
    with closing(Link.of(config, Reporter().say)) as link:
        match asked.command:
            case "install":
                print(_row(install(link, asked.name, _checkout(), config.catalogues)))
            case "remove":
                remove(link, asked.name)
            case _:
                print("\n".join([*map(_row, versions(link)), "current: what the workers have installed"]))
    return 0


def _checkout() -> Path:
    from dpu.checkout import find_checkout

    checkout = find_checkout(os.environ)
    if checkout is None:
        raise BadTree("there is no checkout here to install: set AWEPIPE to one")
    return checkout


def _row(version: Version) -> str:
    return f"{version.name}: {version.description}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="awe version", description="The versions of the recipes on a DPU.")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    commands.add_parser("list", help="show what may be given as dpu_aweversion")
    install = commands.add_parser("install", help="ship your checkout and install it (operators only)")
    install.add_argument("name", metavar="NAME", help="what it is called from now on, as 2.4")
    remove = commands.add_parser("remove", help="remove a version (operators only)")
    remove.add_argument("name", metavar="NAME")
    return parser
