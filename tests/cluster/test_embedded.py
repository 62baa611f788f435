"""The embedded DPU, as real processes: started by a client, killed, started again."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dpu import local
from dpu.config import Config
from dpu.errors import Unreachable
from dpu.ingest import find_files, ingest
from dpu.processor import Processor
from dpu.report import Reporter
from dpu_api.v1.archive_pb2 import ListFramesRequest
from dpu_api.v1.job_pb2 import JobState
from dpu_api.v1.scheduler_pb2 import GetJobRequest

NIGHT = ("--instrument", "WFI", "--chips", "2", "--scale", "0.1", "--biases", "4", "--seed", "7")
ASKED = {"i": "WFI", "d": "2000-04-28"}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night") / "night"
    subprocess.run([sys.executable, "-m", "dpu_recipes.simulate", folder, *NIGHT], check=True, capture_output=True)
    return folder / "raw"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "dpu"
    yield folder
    local.stop(folder)


@pytest.fixture
def dpu(home: Path, raw: Path) -> Iterator[Processor]:
    processor = Processor(Config(home=home, username="ann"), reporter=Reporter(out=io.StringIO()))
    ingest(processor.link, find_files([raw]), print)
    yield processor
    processor.close()


def until(met: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"still not after {seconds} s: {what}"
        time.sleep(0.01)


def kill(home: Path) -> None:
    """End the DPU as a power cut would, and see that its children go too."""
    running = local.Home(home).read_running()
    assert running
    children = psutil.Process(running.pid).children(recursive=True)
    os.kill(running.pid, signal.SIGKILL)
    until(lambda: not local.Home(home).is_alive(), "the lock is free")
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, f"left behind: {[process.cmdline() for process in alive]}"


def products(processor: Processor, frame_class: str) -> list[str]:
    request = ListFramesRequest(frame_class=frame_class)
    return sorted(frame.chip for frame in processor.link.ask(lambda s: s.archive.ListFrames, request).frames)


def state(processor: Processor, job: int) -> int:
    return processor.link.ask(lambda s: s.scheduler.GetJob, GetJobRequest(job_id=job)).job.state


@pytest.mark.parametrize("tasks_ended", [None, 0, 1], ids=["queued", "running", "half done"])
def test_a_job_outlives_a_kill_and_each_product_is_there_once(
    dpu: Processor, home: Path, tasks_ended: int | None
) -> None:
    job = dpu.run("ReadNoise", **ASKED, C=1)
    if tasks_ended is not None:
        until(lambda: state(dpu, job) != JobState.JOB_STATE_QUEUED, "the job runs")
        until(
            lambda: (
                dpu.link.ask(lambda s: s.scheduler.GetJob, GetJobRequest(job_id=job)).job.counts.normal >= tasks_ended
            ),
            f"{tasks_ended} tasks have ended",
        )
    kill(home)
    dpu.close()
    again = Processor(Config(home=home, username="ann"), reporter=Reporter(out=io.StringIO()))
    assert again.wait(job, timeout=90) == "FINISHED"
    assert products(again, "ReadNoise") == ["ccd50", "ccd51"]
    assert [product.chip for product in again.get_job_result(job)] == ["ccd50", "ccd51"]
    assert again.run("ReadNoise", **ASKED) > job
    again.close()


def test_nothing_is_lost_by_stopping_and_starting(dpu: Processor, home: Path) -> None:
    done = dpu.run("ReadNoise", **ASKED, C=1)
    dpu.wait(done, timeout=60)
    queued = dpu.run("Bias", **ASKED, C=1)
    assert local.stop(home)
    dpu.close()
    again = Processor(Config(home=home, username="ann"), reporter=Reporter(out=io.StringIO()))
    assert again.wait(queued, timeout=90) == "FINISHED"
    assert len(again.get_job_result(done)) == 2
    assert len(again.get_job_result(queued)) == 2
    again.close()


def test_a_child_that_dies_is_started_again(dpu: Processor, home: Path) -> None:
    running = local.Home(home).read_running()
    assert running
    children = psutil.Process(running.pid).children()
    archive = next(child for child in children if "archive" in child.cmdline())
    archive.kill()
    job = dpu.run("ReadNoise", **ASKED, C=1)
    assert dpu.wait(job, timeout=90) == "FINISHED"


def test_two_clients_at_once_start_one_dpu(home: Path) -> None:
    code = f"from dpu import local; from pathlib import Path; print(local.ensure(Path({str(home)!r})).address)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate(timeout=60)[0] for process in both}
    assert len(answers) == 1
    assert "dpu.sock" in answers.pop()


def test_a_second_one_in_the_same_home_is_refused(home: Path) -> None:
    local.ensure(home)
    second = subprocess.run(
        [sys.executable, "-m", "dpud", "embedded", "--home", home],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 1
    assert "runs in" in second.stderr.splitlines()[-1]
    assert local.Home(home).is_alive()


def test_an_idle_dpu_of_another_size_is_renewed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local.ensure(home)
    first = local.Home(home).read_running()
    monkeypatch.setenv("DPU_LOCAL_SLOTS", "1")
    local.ensure(home)
    second = local.Home(home).read_running()
    assert first
    assert second
    assert (second.slots, second.pid != first.pid) == (1, True)


def test_it_ends_when_nobody_wants_it(tmp_path: Path) -> None:
    home = local.Home(tmp_path / "dpu")
    process = subprocess.Popen(
        [sys.executable, "-m", "dpud", "embedded", "--home", home.folder, "--idle-hours", "0.0003"],
        stderr=subprocess.PIPE,
    )
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b'"why": "idle"' in said
    assert not home.running.exists()


def test_a_dpu_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    home = tmp_path / "dpu"
    local.Home(home).prepare()
    (home / "tokens.toml").mkdir()
    with pytest.raises(Unreachable, match=r"did not start: .*tokens.toml"):
        local.ensure(home)


def test_a_dpu_that_is_not_ready_in_time_is_ended_and_said_to_be_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "START_S", 0.0)
    home = tmp_path / "dpu"
    with pytest.raises(Unreachable, match=r"did not start: it is not ready after 0 s \(its log: .*dpud\.log\)"):
        local.ensure(home)
    assert not local.Home(home).running.exists()
