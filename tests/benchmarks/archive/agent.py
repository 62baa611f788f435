"""An agent that answers what tasks ask about the archive, one after the other, in a process of its own as on a node."""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial
from pathlib import Path
from typing import cast

from dpu_api.v1.dispatch_pb2 import TaskLease
from dpud.hosting.settings import Address, Peer
from dpud.worker.channel import Receiver, pack
from dpud.worker.frames import Frames
from dpud.worker.peers import Channels
from dpud.worker.proxy import ArchiveProxy
from tests.benchmarks.archive.process import PROJECT

CACHE_BYTES = 1 << 30


async def answer(folder: Path, peer: Peer, process: socket.socket) -> None:
    """Answer until the process of the tasks closes its end."""
    (folder / "scratch").mkdir()
    archive = Channels(peer)
    frames = Frames(folder / "frames", CACHE_BYTES, archive, in_place=False)
    begun = partial(ArchiveProxy, TaskLease(project=PROJECT), folder / "scratch", archive, frames, in_place=False)
    proxy = begun()
    reader, writer = await asyncio.open_connection(sock=process)
    receiver = Receiver(reader, cast("asyncio.Transport", writer.transport))
    while messages := await receiver.receive():
        for message in messages:
            if "end" in message:
                await proxy.close()
                proxy = begun()
            else:
                writer.write(pack(await proxy.answer(message["ask"], message["arguments"])))
    writer.close()
    await proxy.close()
    await archive.close()


if __name__ == "__main__":
    place, address, token, descriptor = sys.argv[1:]
    asyncio.run(answer(Path(place), Peer(Address.parse(address), token), socket.socket(fileno=int(descriptor))))
