"""The stream of lines to the log service: it ends with whoever writes into it."""

import asyncio
from pathlib import Path

from dpud.worker.logship import LogShipper, TaskLog
from dpud.worker.peers import Channels
from dpud.worker.spool import Spool
from fakes_worker import passing_on, surroundings, until


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


async def test_nothing_waits_for_more_to_be_written_into_a_stream_that_broke(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as rig:
        rig.logs.away = True
        spool, channels = Spool(tmp_path / "spool"), Channels(rig.settings.logs)
        lease = rig.lease("Say", "")
        log = TaskLog(lease.ref, lease.project, spool)
        await log.say("a line")
        await log.flush()
        shipping = asyncio.create_task(LogShipper(spool, channels.of()).ship())
        await until(passing_on, "a stream")
        await until(lambda: not passing_on(), "its end")
        rig.logs.away = False
        await asyncio.wait_for(spool.empty(), 60)
        assert rig.logs.texts(lease.ref) == ["a line"]
        shipping.cancel()
        await asyncio.wait({shipping})
        await channels.close()
        spool.close()
