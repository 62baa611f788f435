"""How long code takes to the service, a checkout of 500 files: cold, unchanged, one file changed; and to its effect."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.bundle import bundle, ship
from dpu.channel import open_channel
from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub
from dpud.hosting.tokens import token_row
from tests.benchmarks.figure import Figure, median_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What the tests make a checkout of the recipes with.
sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes_checkout import Session, a_dpu_with_biases, change, checkout

FILES = 500
FOLDERS = 25
LINES = 120
TOKEN = "of-the-benchmark"  # noqa: S105 (the benchmark's own)
READY_S = 30.0
CHANGES = 5
PEER = "zip and HTTP upload of all"
BARS = {"cold_ms": "", "unchanged_ms": "at most 30 ms", "one_file_ms": "at most 60 ms"}

#: Takes a zipped tree and keeps it durably, as the service does with blobs.
RECEIVER = """
import http.server, os, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[1], "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
"""


def figures() -> Iterator[Figure]:
    """Measure shipping, and how long it takes from a saved line to the end of the job that it changed."""
    yield from _shipping()
    yield _changed_to_done()


def _shipping() -> Iterator[Figure]:
    """Measure bundling and shipping together, as `dpu.run` does both, with the service in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _files(folder / "checkout")
        count = itertools.count()
        # As a session at the prompt keeps it.
        there: set[str] = set()

        def change_all() -> None:
            version = next(count)
            for file in (files / "recipes/awe").rglob("*.py"):
                file.write_text(_source(f"{file.name} {version}"))

        def change_one() -> None:
            (files / "recipes/awe/part0/step0.py").write_text(_source(f"changed {next(count)}"))

        with _service(folder) as stub, _receiver(folder) as port:
            for figure, change in (("cold_ms", change_all), ("unchanged_ms", None), ("one_file_ms", change_one)):
                # What changed is known only after looking: the peer sends all of it every time.
                ours = _milliseconds(lambda: ship(bundle(files), stub, there), change)
                peers = _milliseconds(lambda: _send_zip(files, port), change)
                yield Figure(
                    bench="ship", figure=figure, value=ours, unit="ms", peer=PEER, peer_value=peers, bar=BARS[figure]
                )
                # The next figure begins where somebody who works in a checkout is: few files are not committed.
                _commit(files)


def _changed_to_done() -> Figure:
    """Measure `dpu.run` of a recipe that was changed, with a compiled kernel in it, to the end of the job.

    The job is a plan and one task; the frames are small, so that nearly nothing of the time is computing.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), a_dpu_with_biases(Path(name)) as home:
        mine = checkout(Path(name) / "mine", more=0)
        session = Session(home, mine)
        session.run("ReadNoise")
        session.run("Bias")
        for version in range(CHANGES):
            change(mine, before=version, after=version + 1)
            begun = time.perf_counter()
            session.run("Bias")
            seconds.append(time.perf_counter() - begun)
        session.dpu.close()
    value = statistics.median(seconds) * 1e3
    return Figure(bench="ship", figure="changed_to_done_ms", value=value, unit="ms", bar="at most 3000 ms")


def _milliseconds(run: Callable[[], object], change: Callable[[], None] | None) -> float:
    """Return the median time of `run`, with a change before each that is not counted."""
    if change is None:
        return median_seconds(run, 15) * 1e3
    seconds = []
    for _ in range(8):
        change()
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    # The first one warms up.
    return sorted(seconds[1:])[3] * 1e3


def _source(text: str) -> str:
    return "".join(f"value_{number} = {number * 7919}  # of {text}\n" for number in range(LINES))


def _files(folder: Path) -> Path:
    """Make a checkout under git, like one that somebody works in."""
    for number in range(FILES):
        file = folder / f"recipes/awe/part{number % FOLDERS}/step{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_source(file.name))
    (folder / "pyproject.toml").write_text('[tool.dpu]\nship = ["recipes/awe"]\n')
    subprocess.run(["git", "-C", str(folder), "init", "-q"], check=True)
    _commit(folder)
    return folder


def _commit(folder: Path) -> None:
    who = ["-c", "user.name=anna", "-c", "user.email=anna@example.org"]
    for arguments in (["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "As it is"]):
        subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True)


@contextmanager
def _service(folder: Path) -> Iterator[CodeServiceStub]:
    """Run code shipping as a process; give a stub of it."""
    (folder / "tokens.toml").write_text(token_row(TOKEN, "anna", ["KIDS"], ["user"]))
    address = f"unix:{folder / 'code.sock'}"
    environment = {
        "PATH": os.environ["PATH"],
        "DPU_LISTEN": address,
        "DPU_TOKENS_FILE": str(folder / "tokens.toml"),
        "DPU_STATE": str(folder / "state"),
    }
    with _process([sys.executable, "-m", "dpud", "codeship"], environment):
        deadline = time.monotonic() + READY_S
        while not (folder / "code.sock").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"code shipping did not listen within {READY_S:.0f} s")
            time.sleep(0.05)
        with open_channel(address, TOKEN, "KIDS") as channel:
            yield CodeServiceStub(channel)


@contextmanager
def _receiver(folder: Path) -> Iterator[int]:
    command = [sys.executable, "-c", RECEIVER, str(folder / "received.zip")]
    with _process(command, {}) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def _send_zip(checkout: Path, port: int) -> None:
    """Zip the whole tree and upload it, as the first DPU did."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((checkout / "recipes/awe").rglob("*.py")):
            archive.write(file, file.relative_to(checkout))
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/", packed.getvalue())
    connection.getresponse().read()
    connection.close()
