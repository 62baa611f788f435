"""Certificates for tests, made as an operator makes them."""

import socket
import subprocess
from pathlib import Path

from dpud.hosting.settings import Tls

SCRIPT = Path(__file__).parents[1] / "deploy" / "certificates.sh"
#: Of this machine, but not one of the names that are known to be.
HOST = "127.0.0.2"


def certify(folder):
    """Make a certificate of an authority that stays the same; return its files."""
    subprocess.run([SCRIPT, folder, "localhost", HOST], check=True)
    return Tls(folder / "tls.crt", folder / "tls.key")


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
