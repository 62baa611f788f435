"""A real PostgreSQL of this machine's own programs, on a Unix socket in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Where Debian puts the programs, which are not on everybody's PATH.
_DEBIAN = "/usr/lib/postgresql/*/bin/initdb"
_START_S = 30.0
#: As people's databases have it: 'a' before 'B', which is not how Python sorts.
_ORDER = ("--locale=C", "--locale-provider=icu", "--icu-locale=en-US")
#: The server refuses to be root's.
_AS_ROOT = {"user": "postgres", "group": "postgres", "extra_groups": ()}


def programs() -> Path | None:
    """Return the folder of the server's programs, or None where there are none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max((path.parent for path in Path("/").glob(_DEBIAN.lstrip("/"))), default=None)


@dataclass
class Postgres:
    """One server; it may be killed and started again."""

    folder: Path
    bin: Path
    #: Settings of the server, as 'fsync=off'.
    settings: Sequence[str] = ("fsync=off",)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def database(self) -> str:
        """Make an empty database and return its SQLAlchemy URL."""
        name = f"test_{uuid4().hex}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = (f"unix_socket_directories={self.folder}", "listen_addresses=", *self.settings)
        options = [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self._process = self._run("postgres", "-D", str(self.folder / "data"), *options, log=log.fileno())
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{error}\n{(self.folder / 'log').read_text()}") from error
                time.sleep(0.02)
            else:
                return

    def stop(self, number: int = signal.SIGINT) -> None:
        """End the server: SIGINT breaks off what runs, SIGQUIT is a crash, SIGKILL the death of its first process."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def initialise(self) -> None:
        """Make an empty cluster."""
        made = self._run(
            *("initdb", "-D", str(self.folder / "data"), "-U", "postgres", "--no-sync", "--no-instructions"),
            *("-A", "trust", "-E", "UTF8", *_ORDER),
            log=subprocess.PIPE,
        )
        said, _ = made.communicate()
        if made.returncode:
            raise RuntimeError(f"initdb failed: {said.decode()}")

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True)

    def _run(self, program: str, *arguments: str, log: int) -> subprocess.Popen[bytes]:
        other = _AS_ROOT if os.geteuid() == 0 else {}
        return subprocess.Popen(
            [self.bin / program, *arguments], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, **other
        )


@contextmanager
def running(bin_: Path, *settings: str) -> Iterator[Postgres]:
    """Give a server of its own until the block ends; without `settings` it spares the disk its syncs."""
    # Below the system's folder for such things: a path of a test's own may be closed to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="dpu-pg"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        server = Postgres(folder, bin_, settings or ("fsync=off",))
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
