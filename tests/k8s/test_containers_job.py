"""A DPU in containers on a network of its own: TLS between all, a worker in two containers, nothing lost by kills."""

import concurrent.futures
import re

import pytest

from fakes_containers import Pods

pytestmark = pytest.mark.timeout(1800)

NIGHT = """
python -m dpu_recipes.simulate night --chips 4 --scale 0.1 --biases 4 > simulated
awe ingest night/raw | tail -n 1
"""
ONE = "awe -c \"dpu.wait(dpu.run('ReadNoise', i='WFI', d='2000-04-28', C=1)); dpu.get_status()\" | tail -n 1"
#: Submits jobs, one after the other, and waits for all; a call that fails is the user's to repeat, as at the prompt.
MANY = """
cat > many.py <<'END'
import time
from dpu.errors import Unreachable
def tried(call):
    for _ in range(40):
        try:
            return call()
        except Unreachable:
            time.sleep(1)
    raise SystemExit('the services did not come back')
jobs = []
for _ in range(JOBS):
    jobs.append(tried(lambda: dpu.run('ReadNoise', i='WFI', d='2000-04-28', C=1, force=True)))
    time.sleep(PAUSE)
for job in jobs:
    tried(lambda: dpu.wait(job))
dpu.get_status(jobs)
END
awe -c "$(cat many.py)"
"""


@pytest.fixture(scope="module")
def pods(images, tmp_path_factory):
    with Pods(tmp_path_factory.mktemp("pods"), *images) as running:
        assert "16 new frames" in running.client(NIGHT)
        yield running


def test_a_job_runs_through_containers(pods):
    said = pods.client(ONE)
    assert said.endswith("has status FINISHED N/E/A/S/U 4/0/0/0/0"), pods.logs()


def test_a_kill_of_each_container_in_turn_loses_nothing(pods):
    script = MANY.replace("JOBS", "12").replace("PAUSE", "2")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        user = pool.submit(pods.client, script)
        for name in ("agent", "runner", "logs", "codeship", "archive", "scheduler"):
            pods.kill(name)
        said = user.result()
    ends = dict(re.findall(r"Jobid (\d+) has status (.*)", said))
    assert len(ends) == 12, said
    assert set(ends.values()) == {"FINISHED N/E/A/S/U 4/0/0/0/0"}, said + pods.logs()
