"""After a fork: the child opens channels of its own, also while the parent waits for an answer, or holds a lock."""

import os
import subprocess
import sys

import pytest

from dpu_api.v1 import job_pb2
from fakes_client import SECRET, Script, job, serving

#: What a session does, forks in the midst of, and does again on both sides.
SESSION = """
import os, sys, threading, time
from dpu import Processor

dpu = Processor(find_checkout=lambda: None)
ids = dpu.get_jobids()
{before}
began = time.monotonic()
child = os.fork()
if child == 0:
    try:
        assert dpu.get_jobids() == ids
        assert dpu.get_sequence_identifiers() == ['HotPixels', 'Bias']
        {child}
    except BaseException as error:
        print(type(error).__name__, error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert dpu.get_jobids() == ids
assert time.monotonic() - began < 8, "the fork took too long"
sys.exit(os.waitstatus_to_exitcode(status))
"""
WAITING = """
waiting = threading.Thread(target=lambda: dpu.wait(84821), daemon=True)
waiting.start()
while len(threading.enumerate()) < 2:
    pass
"""
LOCKED = """
lock = dpu.link._lock
threading.Thread(target=lambda: (lock.acquire(), time.sleep(0.5), lock.release()), daemon=True).start()
while not lock.locked():
    pass
"""


@pytest.fixture
def environment(tmp_path):
    script = Script(jobs={84820: job(), 84821: job(84821, state=job_pb2.JOB_STATE_RUNNING)})
    script.jobs[84820].ended.GetCurrentTime()
    with serving(tmp_path, script) as address:
        (tmp_path / "token").write_text(SECRET)
        text = f'default = "x"\nusername = "osada"\n[dpus.x]\naddress = "{address}"\ntoken_file = "token"\n'
        (tmp_path / "config.toml").write_text(text)
        yield os.environ | {"DPU_CONFIG": str(tmp_path / "config.toml"), "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("before", "child"),
    [("", ""), (WAITING, ""), (LOCKED, ""), ("", "dpu.close()")],
    ids=["idle", "while another thread waits for a job", "while another thread holds the lock", "and closed"],
)
def test_a_child_opens_its_own_channel_and_the_parent_goes_on(environment, tmp_path, before, child):
    done = subprocess.run(
        [sys.executable, "-c", SESSION.format(before=before, child=child)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
