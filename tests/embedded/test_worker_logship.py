"""The stream of lines to the log service: it ends with whoever writes into it."""

import asyncio
from pathlib import Path

from dpud.worker.logship import LogShipper, TaskLog
from dpud.worker.peers import Channels
from dpud.worker.spool import Spool
from fakes_worker import surroundings


async def test_nobody_writes_into_a_stream_that_was_left(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as rig:
        spool, channels = Spool(tmp_path / "spool"), Channels(rig.settings.logs)
        lease = rig.lease("Say", "")
        log = TaskLog(lease.ref, lease.project, spool)
        await log.say("a line")
        await log.flush()
        before = asyncio.all_tasks()
        shipping = asyncio.create_task(LogShipper(spool, channels.of()).ship())
        await asyncio.wait_for(spool.empty(), 60)
        shipping.cancel()
        await asyncio.wait({shipping})
        ours = [task for task in asyncio.all_tasks() - before if "LogShipper" in repr(task)]
        assert ours == []
        await channels.close()
        spool.close()
