"""One trace leads from a user's call through scheduler, worker and archive; without an endpoint there is none."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dpu import tracing
from dpu.errors import UsageError
from fakes_fleet import sailing, until
from fakes_tracing import receiving

ROOT = Path(__file__).parents[2]
NIGHT = ("-m", "dpu_recipes.simulate", "night", "--chips", "1", "--scale", "0.1", "--biases", "2")
CALL = "dpu.wait(dpu.run('ReadNoise', i='WFI', d='2000-04-28', C=1)); dpu.get_status()"

pytestmark = pytest.mark.timeout(300)


async def run(*command, cwd, environment):
    """Return what a program prints that is run as a user runs it."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_one_trace_leads_from_the_client_to_the_archive():
    folder = Path(tempfile.mkdtemp(prefix="dpu"))
    try:
        async with receiving() as receiver:
            wanted = {tracing.ENDPOINT: receiver.address, "OTEL_BSP_SCHEDULE_DELAY": "200"}
            async with sailing(folder, **wanted) as fleet:
                told = fleet.configuration() | wanted
                awe = Path(sys.executable).with_name("awe")
                await run(sys.executable, *NIGHT, cwd=folder, environment=told)
                await run(awe, "ingest", folder / "night" / "raw", cwd=folder, environment=told)
                assert "FINISHED" in await run(awe, "-c", CALL, cwd=ROOT, environment=told)

                async def whole():
                    return trace_of(receiver.spans)

                trace = await until(whole, "one trace of all four")
    finally:
        shutil.rmtree(folder)
    assert {span.trace for span in receiver.spans} == {trace[0].trace}, "what belongs to no job leaves no span"
    ids = {span.id: span for span in trace}
    (root,) = (span for span in trace if not span.parent)
    assert (root.service, root.name) == ("dpu-client", "submit ReadNoise")
    assert all(span.parent in ids for span in trace if span is not root)
    staged = next(span for span in trace if span.name.endswith("/StageProduct"))
    assert ids[staged.parent].name == "task ReadNoise"
    published = next(span for span in trace if span.name.endswith("/Publish"))
    assert (ids[published.parent].service, ids[published.parent].name) == ("dpu-scheduler", "publish")


def trace_of(spans):
    """Return the spans of the one submission, once all that it leads to is there."""
    trace = [span for span in spans if span.service == "dpu-client"]
    mine = [span for span in spans if trace and span.trace == trace[0].trace]
    names = {(span.service, span.name) for span in mine}
    needed = {
        ("dpu-client", "submit ReadNoise"),
        ("dpu-scheduler", "SchedulerService/SubmitJob"),
        ("dpu-scheduler", "publish"),
        ("dpu-worker", "task ReadNoise"),
        ("dpu-archive", "ArchiveService/StageProduct"),
        ("dpu-archive", "ArchiveService/Publish"),
    }
    known = {span.id for span in mine}
    return mine if needed <= names and all(span.parent in known for span in mine if span.parent) else None


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded():
    program = (
        "import sys; from dpu import tracing; tracing.set_up('trial', {})\n"
        "with tracing.root('x'), tracing.below('00-1-1-01', 'y'), tracing.serving('/a/b', ()):\n"
        "    assert tracing.carried() == () and tracing.present() == ''\n"
        "assert tracing.begin('z', '00-1-1-01') is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_endpoint_without_the_packages_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(UsageError, match=r"pip install 'dpu\[tracing\]'"):
        tracing.set_up("trial", {tracing.ENDPOINT: "http://127.0.0.1:1"})
