"""The same worker as a job of Slurm: it works, ends by itself, and drains when Slurm says that its time is up."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from dpu_api.v1 import job_pb2
from fakes_slurm import lacking, running
from fakes_worker import SECRET, surroundings, until

#: Tools are installed when they are asked for first.
pytestmark = pytest.mark.timeout(1800)
SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "worker.sbatch"
Category = job_pb2.FailureCategory

RECIPES = """
def Say(options, archive, scratch, spec):
    print("said in", os.getcwd())

def Hang(options, archive, scratch, spec):
    print("hanging")
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if why := lacking():
        pytest.skip(why)
    with running(tmp_path_factory.mktemp("slurm")) as found:
        yield found


def submit(slurm, folder, rig, **settings):
    """Submit a worker; return the job's number."""
    (folder / "worker.token").write_text(SECRET)
    lines = {
        **dict.fromkeys(("DPU_SCHEDULER", "DPU_LOGS", "DPU_CODE", "DPU_ARCHIVE"), rig.settings.scheduler.address.text),
        "DPU_TOKEN_FILE": folder / "worker.token",
        "DPU_WORKER_UIDS": "none",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        **settings,
    }
    (folder / "worker.env").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    command = ("sbatch", "--parsable", f"--output={folder}/worker-%j.log", f"--chdir={folder}", SCRIPT)
    return slurm.run(*command, DPU_WORKER_SETTINGS=str(folder / "worker.env"), TMPDIR=str(folder))


async def until_state(slurm, job, wanted, folder):
    def log():
        return (folder / f"worker-{job}.log").read_text() + slurm.logs()

    state = ""
    for _ in range(1200):
        state = await asyncio.to_thread(slurm.state, job)
        if state == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"job {job} is {state}, not {wanted}: {log()}")


async def test_a_pilot_runs_tasks_and_ends_when_there_are_no_more(slurm, tmp_path):
    async with surroundings(tmp_path) as rig:
        lease = rig.lease("Say", rig.ship(RECIPES))
        rig.scheduler.give(lease)
        job = submit(slurm, tmp_path, rig, DPU_WORKER_IDLE_S=2)
        report = await rig.report_of(lease, 120)
        assert not report.HasField("failure"), report
        (registered,) = rig.scheduler.registered
        assert (registered.name, registered.slots, registered.memory_mib) == (f"trial-{job}", 2, 6300)
        await until_state(slurm, job, "COMPLETED", tmp_path)
        assert list(tmp_path.glob("dpu-worker-*")) == []


async def test_a_pilot_whose_time_is_up_hands_back_what_runs(slurm, tmp_path):
    async with surroundings(tmp_path) as rig:
        lease = rig.lease("Hang", rig.ship(RECIPES), time_s=600.0)
        rig.scheduler.give(lease)
        job = submit(slurm, tmp_path, rig, DPU_WORKER_GRACE_S=1)
        await until(lambda: "hanging" in rig.logs.texts(lease.ref), "the task to hang", 120)
        # What Slurm does by itself so many seconds before the end, as the script asks.
        slurm.run("scancel", "--batch", "--signal=TERM", job)
        report = await rig.report_of(lease, 120)
        assert report.failure.category == Category.FAILURE_CATEGORY_WORKER_DRAINED
        await until_state(slurm, job, "COMPLETED", tmp_path)


def test_a_pilot_without_settings_says_what_is_missing(tmp_path):
    done = subprocess.run(
        [SCRIPT], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "DPU_WORKER_SETTINGS=" in done.stderr
