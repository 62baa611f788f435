"""`awe logout`: a DPU that knows you no more from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu.login import asked

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `awe logout` and return its exit code."""
    _, known = asked("logout", "Log out of a DPU.", arguments)
    if known.login is not None:
        known.login.forget()
    elif known.token_file is not None:
        known.token_file.unlink(missing_ok=True)
    print(f"You are logged out of {known.name}")
    return 0
