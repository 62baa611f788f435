"""The reference of the metrics is whole and true: names, kinds and labels are those of the services."""

import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from dpud.hosting.metrics import BUILD
from dpud.worker.metrics import WorkerMetrics
from fakes_house import Callers, specs, submission
from recorded.wire import house

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
ROW = re.compile(r"^\| `([a-z_]+)` \| (gauge|counter|histogram) \| ([^|]*)\|", re.MULTILINE)
#: Kinds of Python's client that Prometheus knows under another.
KINDS = {"info": "gauge"}
#: Of the format itself.
OF_HISTOGRAMS = {"le"}


def documented():
    """Return kind and labels of each metric of the page."""
    return {
        name: (kind, set(re.findall(r"`([a-z_]+)`", labels))) for name, kind, labels in ROW.findall(PAGE.read_text())
    }


def shown(families):
    """Return kind and labels of each of our metrics that is collected; None where it has no sample."""
    found = {}
    for family in families:
        if family.name.startswith(("dpu_", "grpc_server_")):
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            labels = {label for sample in family.samples for label in sample.labels} - OF_HISTOGRAMS
            known = labels if family.samples else None
            found[family.name + suffix] = (KINDS.get(family.type, family.type), known)
    return found


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="dpu"))
    yield path
    shutil.rmtree(path)


async def test_the_reference_names_every_metric_with_its_kind_and_labels(folder):
    BUILD.info({"version": "0", "python": "3", "service": "trial"})
    idle = SimpleNamespace(leases=(0, 0), oldest_us=None, size=0)
    async with house(folder) as address, Callers(address) as callers:
        worker = await callers.worker()
        await callers.person().SubmitJob(submission(tasks=specs("ccd50", "ccd51")))
        await worker.work(room=1)
        found = shown([*REGISTRY.collect(), *WorkerMetrics(idle, idle).collect()])
    page = documented()
    assert {name: kind for name, (kind, _) in found.items()} == {name: kind for name, (kind, _) in page.items()}
    assert {name: labels for name, (_, labels) in found.items() if labels is not None} == {
        name: labels for name, (_, labels) in page.items() if found[name][1] is not None
    }
