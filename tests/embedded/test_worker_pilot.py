"""A worker that was started for work in a queue ends by itself when there has been none for a while."""

from fakes_worker import until, working

RECIPES = """
def Nap(options, archive, scratch, spec):
    time.sleep(1.5)
"""


async def test_a_pilot_works_as_long_as_there_is_work_and_then_ends(tmp_path):
    async with working(tmp_path, idle_s=5.0) as rig:
        # It has not run for long enough to be idle, whatever it loads meanwhile.
        lease = rig.lease("Nap", rig.ship(RECIPES))
        rig.scheduler.give(lease)
        report = await rig.report_of(lease, 60)
        assert not report.HasField("failure"), report
        await until(rig.stop.is_set, "the worker to end by itself", 60)


async def test_a_pilot_without_any_work_ends(tmp_path):
    async with working(tmp_path, idle_s=0.1) as rig:
        await until(rig.stop.is_set, "the worker to end by itself", 60)


async def test_a_worker_waits_for_work_for_ever(tmp_path):
    async with working(tmp_path) as rig:
        await until(lambda: rig.scheduler.calls, "its first call", 60)
        assert not rig.stop.is_set()
