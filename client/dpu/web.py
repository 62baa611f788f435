"""`awe web`: the queue page of the DPU in use, on this machine, for its user alone."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import grpc

from dpu import local
from dpu.config import Config
from dpu.errors import Unreachable, UsageError
from dpu.link import Link
from dpu.report import Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `awe web` until Ctrl-C, and return its exit code."""
    parser = argparse.ArgumentParser(prog="awe web", description="Show the queue page of your DPU on this machine.")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: one that is free)")
    port = parser.parse_args(arguments).port or _free_port()
    if find_spec("dpud") is None or find_spec("uvicorn") is None:
        raise UsageError("the services are not installed here: pip install 'dpu[services]'")
    key = secrets.token_urlsafe(16)
    command = [sys.executable, "-m", "dpud", "web"]
    with subprocess.Popen(  # noqa: S603 (our own program)
        command, env=_environment(port, key), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = process.stderr or ()
            first = next(iter(lines), "")
            if "listening" not in first:
                raise Unreachable(f"the queue page did not start: {first.strip()}")
            print(f"The queue page is at http://127.0.0.1:{port}/enter?key={key}", flush=True)
            print("The key lets you in once, your browser remembers you. Ctrl-C ends the page.", flush=True)
            for line in lines:
                print(line, end="", file=sys.stderr)
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()


def _environment(port: int, key: str) -> dict[str, str]:
    """Return the settings of the page. Raises UsageError for a DPU whose user is known by an OpenID provider."""
    config = Config.read(os.environ)
    known = config.find(config.dpu_name)
    token = local.Home(config.home).token if known.is_local else known.token_file
    if token is None:
        raise UsageError(f"DPU {known.name!r} has an OpenID provider: it has a queue page of its own, ask its operator")
    link = Link.of(config, Reporter().say)
    try:
        where = link.locate()
    except grpc.RpcError as error:
        raise link.meaning(error) from error
    return {
        **{name: os.environ[name] for name in local.KEPT if name in os.environ},
        "DPU_NAME": known.name,
        "DPU_LISTEN": f"127.0.0.1:{port}",
        "DPU_SCHEDULER": where.scheduler,
        "DPU_LOGS": where.logs,
        "DPU_ARCHIVE": where.archive,
        "DPU_CODE": where.code,
        "DPU_TOKEN_FILE": str(token),
        "DPU_PROJECT": config.project,
        "DPU_WEB_KEY": key,
        "DPU_END_WITH_PARENT": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
