"""The stream of lines to the log service: it ends with whoever writes into it."""

import asyncio
from pathlib import Path
from typing import Any

from dpud.worker.logship import LogShipper, TaskLog
from dpud.worker.peers import Channels
from dpud.worker.spool import Spool
from fakes_worker import surroundings


class Slow(Spool):
    """Is long about an acknowledgement."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.asked = asyncio.Event()

    async def acknowledge_all(self, below: Any) -> None:  # noqa: ARG002 (whatever it is)
        self.asked.set()
        await asyncio.Event().wait()


async def test_nobody_writes_into_a_stream_that_was_left_within_an_answer(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as rig:
        spool, channels = Slow(tmp_path / "spool"), Channels(rig.settings.logs)
        lease = rig.lease("Say", "")
        log = TaskLog(lease.ref, lease.project, spool)
        await log.say("a line")
        await log.flush()
        before = asyncio.all_tasks()
        shipping = asyncio.create_task(LogShipper(spool, channels.of()).ship())
        await asyncio.wait_for(spool.asked.wait(), 60)
        shipping.cancel()
        await asyncio.wait({shipping})
        ours = [task for task in asyncio.all_tasks() - before if "LogShipper" in repr(task)]
        assert ours == []
        await channels.close()
        spool.close()
