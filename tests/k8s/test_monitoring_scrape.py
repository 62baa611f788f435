"""A real Prometheus scrapes real services at work: every query of every dashboard returns data."""

import asyncio
import math
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dpu_api.v1 import archive_pb2_grpc, job_pb2, scheduler_pb2_grpc
from dpu_api.v1.archive_pb2 import PublishRequest
from dpu_recipes.frames import Frame
from dpud.archive.records import Attempt, Record
from fakes_archive import announced
from fakes_fleet import sailing, until
from fakes_house import submission
from fakes_prometheus import ALERTS, METRIC, RULES, asked, documented, program, scraping

ROOT = Path(__file__).parents[2]
#: More memory than the worker has.
TOO_MUCH_MIB = 100_000
QUALITIES = {
    "ReducedScienceFrame": {"PSF_RADIUS": 0.82},
    "PhotometricParameters": {"ZEROPNT": 24.4},
    "GainLinearity": {"GAIN": 2.1},
}

#: The command that users type.
AWE = Path(sys.executable).with_name("awe")
#: What work there is has been seen by then, however busy the machine is.
LONG_S = 600.0

pytestmark = pytest.mark.timeout(1800)


async def run(*command, cwd, environment):
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def ingest_a_night(fleet):
    """Ingest a night, as a user does."""
    environment = fleet.configuration()
    simulate = ("-m", "dpu_recipes.simulate", "night", "--chips", "2", "--scale", "0.1", "--biases", "4")
    await run(sys.executable, *simulate, cwd=fleet.folder, environment=environment)
    await run(AWE, "ingest", fleet.folder / "night" / "raw", cwd=fleet.folder, environment=environment)


async def work_on(fleet, enough):
    """Measure the night's read noise with the code of this checkout, and have a job fail, again and again.

    What happened before anybody looked has no rate.
    """
    environment = fleet.configuration()
    call = "dpu.wait(dpu.run('ReadNoise', i='WFI', d='2000-04-28', C=1, force=True)); dpu.get_status()"
    while not enough.is_set():
        printed = await run(AWE, "-c", call, cwd=ROOT, environment=environment)
        assert "FINISHED N/E/A/S/U 2/0/0/0/0" in printed
        await asyncio.to_thread(submit, fleet, job_pb2.TaskSpec(label="nothing to work on"))


def submit(fleet, *tasks):
    with fleet.channel("scheduler") as channel:
        scheduler_pb2_grpc.SchedulerServiceStub(channel).SubmitJob(submission(tasks=tasks))


def publish(fleet):
    """Have the archive take and publish what recipes that are not run here would make."""
    moment = datetime(2000, 4, 28, 22, tzinfo=UTC)
    for number, (kind, values) in enumerate(QUALITIES.items(), 1):
        attempt = Attempt(1_000, number, 1)
        frame = Frame(
            frame_class=kind, instrument="WFI", chip="ccd50", night=moment.date(), date_obs=moment, values=values
        )
        product = announced(Record(frame=frame, project="survey", user="ann", attempt=attempt))
        with fleet.channel("archive", "worker") as channel:
            archive_pb2_grpc.ArchiveServiceStub(channel).StageProduct(iter([product]))
        ref = job_pb2.TaskRef(job_id=attempt.job, task=attempt.task, attempt=attempt.attempt)
        with fleet.channel("archive", "outbox") as channel:
            archive_pb2_grpc.ArchiveServiceStub(channel).Publish(PublishRequest(ref=ref, commit=True))


async def test_every_query_of_every_dashboard_returns_data_from_a_real_run():
    program("prometheus")
    folder = Path(tempfile.mkdtemp(prefix="dpu"))
    try:
        async with sailing(folder) as fleet:
            targets = [f"127.0.0.1:{port}" for port in fleet.metrics.values()]
            async with scraping(folder, targets, ALERTS) as prometheus:
                await ingest_a_night(fleet)
                # One that waits for good.
                submit(fleet, job_pb2.TaskSpec(label="too large", memory_mib=TOO_MUCH_MIB))
                publish(fleet)
                enough = asyncio.Event()
                async with asyncio.TaskGroup() as group:
                    group.create_task(work_on(fleet, enough))
                    await all_have_data(prometheus)
                    enough.set()
                await rules_are_well(prometheus)
                await no_metric_is_undocumented(prometheus)
    finally:
        shutil.rmtree(folder)


async def all_have_data(prometheus):
    open_ones = {(title, query.replace("$__rate_interval", "5m")) for title, query in asked()}
    print(f"{len(open_ones)} queries are asked")

    async def answered():
        for title, query in list(open_ones):
            if any(not math.isnan(value) for value in await prometheus.values(query)):
                open_ones.remove((title, query))
        return not open_ones

    try:
        await until(answered, "data for every query", LONG_S)
    except AssertionError:
        raise AssertionError(f"no data for {open_ones}") from None


async def rules_are_well(prometheus):
    """All rules are evaluated on real metrics, without an error."""

    async def evaluated():
        (group,) = (await prometheus.ask("rules"))["groups"]
        return all(rule["health"] == "ok" for rule in group["rules"]) and group["rules"]

    assert len(await until(evaluated, "every rule's evaluation")) == len(RULES)


async def no_metric_is_undocumented(prometheus):
    known = documented()
    names = await prometheus.ask("label/__name__/values")
    ours = {name for name in names if METRIC.fullmatch(name) and not name.endswith("_created")}
    shown = {
        base if known.get(base := name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")) else name
        for name in ours
    }
    assert shown == set(known)
    metadata = await prometheus.ask("metadata")
    kinds = {name: metadata[name][0]["type"] for name in known if name in metadata}
    assert kinds == {name: kind for name, kind in known.items() if name in kinds}
