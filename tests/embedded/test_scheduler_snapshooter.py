"""The process that shortens the journal, beside a loop that goes on."""

import asyncio
from contextlib import closing

from dpud.scheduler import machine
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.loop import Loop
from dpud.scheduler.snapshooter import Snapshooter
from fakes_scheduler import background, submit, until


async def test_a_long_journal_is_shortened_by_another_process_while_the_loop_goes_on(tmp_path):
    path = tmp_path / "journal.sqlite"
    with closing(SqlJournal.open_file(path, 1024)) as journal:
        loop = Loop(journal)
        snapshooter = Snapshooter(loop, journal, least_events=50, look_s=0.01)
        async with background(loop.run(), snapshooter.run()):
            for number in range(60):
                await asyncio.wait_for(loop.execute(submit(request_id=f"r{number}")), 5)
            # The snapshot of these is made while one more job comes.
            await loop.execute(submit(request_id="late"))
            await until(lambda: loop.tail < 50, lambda: f"{loop.tail} events behind the snapshot", 20)
        assert len(journal.base().jobs) >= 50
        left = sum(len(group) for group in journal.replay())
        assert left <= loop.tail
    with closing(SqlJournal.open_file(path, 1024)) as journal:
        state = journal.base()
        for group in journal.replay():
            for event in group:
                machine.apply(state, event)
        assert state == loop.state
