"""The queue page shows what it is to Prometheus, on a port of its own."""

import asyncio
import os
import signal
import sys
import urllib.request

from dpud.hosting.children import send_signal
from fakes_fleet import free_port, until


async def test_the_page_says_what_runs_here():
    pages, metrics = free_port(), free_port()
    settings = {
        "DPU_NAME": "trial",
        "DPU_LISTEN": f"127.0.0.1:{pages}",
        "DPU_SCHEDULER": "unix:/nowhere",
        "DPU_LOGS": "unix:/nowhere",
        "DPU_ARCHIVE": "unix:/nowhere",
        "DPU_METRICS_LISTEN": f"127.0.0.1:{metrics}",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "dpud", "web", env=os.environ | settings)

    async def shown():
        return await asyncio.to_thread(read, f"http://127.0.0.1:{metrics}/metrics")

    try:
        text = await until(shown, "metrics")
    finally:
        send_signal(process, signal.SIGKILL)
        await process.wait()
    assert 'service="web"' in next(line for line in text.splitlines() if line.startswith("dpu_build_info{"))


def read(url):
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (our own, on loopback)
        return answer.read().decode()
