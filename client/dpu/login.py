"""`awe login`: who you are to a DPU."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.config import Config, KnownDpu
from dpu.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `awe login` and return its exit code."""
    config, known = asked("login", "Log in to a DPU: at its OpenID provider, or with a token.", arguments)
    if (login := known.login) is not None:
        challenge = login.provider.challenge()
        print(f"Open {challenge.url} in a browser, on any machine, and confirm the code {challenge.code}", flush=True)
        tokens = login.provider.wait(challenge)
        login.keep(tokens)
        user = tokens.user
    else:
        _keep(_read_token(known), known)
        user = config.username
    print(f"You are logged in to {known.name} as {user}")
    return 0


def asked(verb: str, about: str, arguments: Sequence[str]) -> tuple[Config, KnownDpu]:
    """Return the configuration and the DPU that was named. Raises UsageError where one does not log in to it."""
    parser = argparse.ArgumentParser(prog=f"awe {verb}", description=about)
    parser.add_argument("dpu", nargs="?", default="", help="its name in the configuration (default: the one in use)")
    given = parser.parse_args(arguments)
    config = Config.read(os.environ)
    known = config.find(given.dpu or config.dpu_name)
    if known.is_local:
        raise UsageError(f"{known.name!r} is the embedded DPU of this machine's user: there is nothing to log in to")
    if known.login is None and known.token_file is None:
        raise UsageError(f"dpus.{known.name} has neither an issuer nor a token_file: see docs/how-to/log-in.md")
    return config, known


def _read_token(known: KnownDpu) -> str:
    """Return the token that somebody types, unseen, or pipes in. Raises UsageError."""
    token = getpass.getpass(f"Token for {known.name}: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not token.strip():
        raise UsageError("no token was given")
    return token.strip()


def _keep(token: str, known: KnownDpu) -> None:
    path = known.token_file or Path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{token}\n")
