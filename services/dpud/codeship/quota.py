"""How much code a project may have, wherever it is kept."""

from __future__ import annotations

from dpu.channel import MIB
from dpu.errors import Exhausted

#: Some hundreds of the largest trees, or hundreds of thousands of one-line changes.
QUOTA_MIB = 10 * 1024


def check_quota(there: int, added: int, quota: int) -> None:
    """Raise Exhausted where a project that has so many bytes may not have so many more."""
    if added and there + added > quota:
        raise Exhausted(
            f"the project has {there / MIB:.1f} MiB of code here; {added / MIB:.1f} MiB more are over its quota of "
            f"{quota / MIB:.1f} MiB: ship less, or wait until what nobody uses is removed"
        )
