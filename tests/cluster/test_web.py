"""`awe web` on a real embedded DPU: a job goes live in the queue."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from dpu import local

BIN = Path(sys.executable).parent


@pytest.mark.timeout(300)
def test_a_job_goes_live_in_the_queue_and_its_log_can_be_read(tmp_path):
    environment = {key: os.environ[key] for key in local.KEPT if key in os.environ}
    environment |= {"DPU_HOME": str(tmp_path / "dpu"), "DPU_USER": "ann"}

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    simulate = [
        sys.executable,
        "-m",
        "dpu_recipes.simulate",
        "night",
        "--chips",
        "2",
        "--scale",
        "0.1",
        "--biases",
        "2",
    ]
    subprocess.run(simulate, cwd=tmp_path, check=True, capture_output=True)
    try:
        run("awe", "ingest", "night/raw")
        with subprocess.Popen(
            [str(BIN / "awe"), "web"], env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path
        ) as page:
            try:
                assert page.stdout is not None
                address = page.stdout.readline().split()[-1]
                browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
                with browser.open(address, timeout=60) as queue:
                    assert "No jobs" in queue.read().decode()
                base = address.partition("/enter")[0]
                with browser.open(f"{base}/live?after=0", timeout=120) as live:
                    number = int(run("dpu", "run", "ReadNoise", "-i", "WFI", "-d", "2000-04-28"))
                    rows = (json.loads(line[6:])["html"] for line in live if line.startswith(b'data: {"id"'))
                    states = iter(lambda: re.findall(r'class="state \w+">(\w+)<', next(rows))[0], "FINISHED")
                    assert set(states) <= {"QUEUED", "RUNNING"}
                with browser.open(f"{base}/jobs/{number}/log", timeout=60) as log:
                    shown = log.read().decode()
                assert "Making ReadNoise object" in shown
                assert "The job has ended as FINISHED, and the log is complete" in shown
                page.send_signal(signal.SIGINT)
                assert page.wait(60) == 0
            finally:
                page.kill()
    finally:
        local.stop(tmp_path / "dpu")
