"""Programs of Debian's packages: found, or installed where that may be done."""

import os
import shutil
import subprocess

#: Mirrors fail now and then, and another may be installing.
PATIENT = ("-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=600")


def lacking(program: str, *packages: str) -> str:
    """Return why a program is not there; empty where it is. Root on Debian is given the packages that have it."""
    if shutil.which(program) is not None:
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{program} is not there: as root on Debian, apt-get install {' '.join(packages)}"
    for command in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
        done = subprocess.run(
            ["apt-get", "-q", *PATIENT, *command],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"{program} is not there, and apt-get cannot {command[0]}: {done.stderr.strip()[-300:]}"
    return ""
