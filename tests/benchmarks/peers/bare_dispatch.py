"""The way of one task with nothing on it, for the benchmark `dispatch`, as one JSON object.

A call, a commit of SQLite that is synced, a message on a stream to an agent, a process behind a socket pair, and all
the way back with a second commit. No job, no fairness, no lease, no log, no check of who calls: a floor, not a peer.
"""

import asyncio
import json
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
from grpc import aio

ORDER, END = b"o" * 300, b"e" * 300
LARGEST = 4096
SERVICE = "Bare"


def _handlers(unary, stream) -> grpc.GenericRpcHandler:
    methods = {
        "Submit": grpc.unary_unary_rpc_method_handler(unary),
        "Attend": grpc.stream_stream_rpc_method_handler(stream),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


async def service(folder: Path) -> None:
    """Commit what is submitted, pass it on, commit its end, answer."""
    journal = sqlite3.connect(folder / "journal", isolation_level=None)
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE entry (number INTEGER PRIMARY KEY, body BLOB)",
    ):
        journal.execute(statement)
    orders: asyncio.Queue[bytes] = asyncio.Queue()
    ends: asyncio.Queue[bytes] = asyncio.Queue()

    def commit(body: bytes) -> None:
        journal.execute("BEGIN IMMEDIATE")
        journal.execute("INSERT INTO entry (body) VALUES (?)", (body,))
        journal.execute("COMMIT")

    async def submit(order: bytes, _context: object) -> bytes:
        commit(order)
        orders.put_nowait(order)
        return await ends.get()

    async def attend(said, _context: object):
        async def hear() -> None:
            async for end in said:
                commit(end)
                ends.put_nowait(end)

        hearing = asyncio.create_task(hear())
        try:
            while True:
                yield await orders.get()
        finally:
            hearing.cancel()

    server = aio.server()
    server.add_generic_rpc_handlers((_handlers(submit, attend),))
    server.add_insecure_port(_address(folder))
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


async def agent(folder: Path) -> None:
    """Give orders to a process, and say what it answers."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, __file__, "process", str(theirs.fileno())]
    with theirs:
        await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()])
    reader, writer = await asyncio.open_connection(sock=ours)
    async with aio.insecure_channel(_address(folder)) as channel:
        line = channel.stream_stream(f"/{SERVICE}/Attend")()
        print("ready", flush=True)
        while (order := await line.read()) is not aio.EOF:
            writer.write(order)
            await line.write(await reader.read(LARGEST))


def process(descriptor: int) -> None:
    """Answer each order until there is nobody any more."""
    with socket.socket(fileno=descriptor) as orders:
        while orders.recv(LARGEST):
            orders.sendall(END)


def measured(folder: Path, singles: int) -> dict[str, float]:
    """Return the figures of so many tasks, one after the other."""
    running = []
    try:
        for role in ("service", "agent"):
            child = subprocess.Popen([sys.executable, __file__, role, folder], stdout=subprocess.PIPE, text=True)
            running.append(child)
            child.stdout.readline()
        with grpc.insecure_channel(_address(folder)) as channel:
            submit = channel.unary_unary(f"/{SERVICE}/Submit")
            for _ in range(50):
                submit(ORDER, timeout=30)
            seconds = sorted(_timed(lambda: submit(ORDER, timeout=30)) for _ in range(singles))
    finally:
        for child in reversed(running):
            child.kill()
            child.wait()
    return {
        "latency_p50_ms": 1e3 * statistics.median(seconds),
        "latency_p99_ms": 1e3 * seconds[int(0.99 * len(seconds))],
    }


def _address(folder: Path) -> str:
    return f"unix:{folder}/bare.sock"


def _timed(work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main(role: str, argument: str) -> None:
    match role:
        case "service":
            asyncio.run(service(Path(argument)))
        case "agent":
            asyncio.run(agent(Path(argument)))
        case "process":
            process(int(argument))
        case _:  # how many tasks the others do; of those one after the other there are so many
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(measured(Path(folder), int(argument))))


if __name__ == "__main__":
    main(*sys.argv[1:3])
