"""Programs of Debian's packages: found, or installed where that may be done."""

import os
import shutil
import subprocess

#: Mirrors fail now and then, and another may be installing.
PATIENT = ("-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=30", "-o", "DPkg::Lock::Timeout=600")


def lacking(program: str, *packages: str) -> str:
    """Return why a program is not there; empty where it is. Root on Debian is given the packages that have it."""
    if shutil.which(program) is not None:
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{program} is not there: as root on Debian, apt-get install {' '.join(packages)}"
    # Lists that cannot be renewed may be new enough.
    _apt_get("update")
    done = _apt_get("install", "--yes", "--no-install-recommends", *packages)
    return f"{program} is not there, and cannot be installed: {done.stderr.strip()[-300:]}" if done.returncode else ""


def _apt_get(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "-q", *PATIENT, *command],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
