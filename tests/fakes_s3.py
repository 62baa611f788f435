"""An S3 of this machine: moto's server in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import obstore
from obstore.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_S = 30.0


class LocalS3:
    """Where it is, and how to log in."""

    def __init__(self, port: int) -> None:
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def bucket(self) -> str:
        """Make an empty bucket and return its name."""
        import urllib.request

        name = f"test-{uuid4().hex}"
        request = urllib.request.Request(f"{self.environment['AWS_ENDPOINT_URL']}/{name}", method="PUT")  # noqa: S310 (our own server)
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 (as above)
        return name

    def store(self, bucket: str, **options: Any) -> S3Store:
        """Return the way to a bucket."""
        settings = {key.lower(): value for key, value in self.environment.items() if key != "AWS_ALLOW_HTTP"}
        return S3Store(bucket, config=settings, client_options={"allow_http": True}, **options)


@contextmanager
def running() -> Iterator[LocalS3]:
    """Give a server of its own until the block ends."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(server, port)
        yield LocalS3(port)
    finally:
        server.terminate()
        server.wait()


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert server.poll() is None, "the S3 of the tests did not start"
            assert time.monotonic() < deadline, f"the S3 of the tests does not answer after {_START_S} s"
            time.sleep(0.02)
        else:
            return


def objects(store: S3Store) -> list[str]:
    """Return the names of everything in a bucket."""
    return sorted(found["path"] for page in obstore.list(store) for found in page)
