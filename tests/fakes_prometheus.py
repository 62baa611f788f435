"""What is to be monitored, and Debian's Prometheus: found, or installed where that can be done, and run."""

import asyncio
import json
import re
import shutil
import urllib.parse
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

import fakes_debian as debian
from dpud.hosting.children import send_signal
from fakes_fleet import free_port

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
BOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
METRIC = re.compile(r"\b(?:dpu|grpc_server)_[a-z_]+")


def documented():
    """Return the metrics of the reference page by name, with their kind."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    return dict(re.findall(r"^\| `([a-z_]+)` \| (gauge|counter|histogram) ", page, re.MULTILINE))


def asked():
    """Yield what the dashboards ask: the panel, and its query."""
    for board in BOARDS:
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{board.stem}: {panel['title']}", target["expr"]


def program(name):
    """Return where a program of the package is; skip where it is not there and cannot be installed."""
    if why := debian.lacking(name, "prometheus"):
        pytest.skip(why)
    return shutil.which(name)


class Prometheus:
    """One that scrapes every second."""

    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    async def ask(self, path, **parameters):
        """Return the data of an answer."""
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        return await asyncio.to_thread(_get, url)

    async def values(self, query):
        """Return the numbers that a query has now."""
        result = (await self.ask("query", query=query))["result"]
        return [float(series["value"][1]) for series in result]


def _get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (our own, on loopback)
        return json.load(answer)["data"]


@asynccontextmanager
async def scraping(folder, targets, rules):
    """Run a Prometheus that scrapes `targets` and evaluates the rules of a file."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "dpu", "static_configs": [{"targets": targets}]}],
    }
    # JSON is YAML.
    (folder / "prometheus.yaml").write_text(json.dumps(configuration))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program("prometheus"),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    try:
        yield Prometheus(port)
    finally:
        send_signal(process, 9)
        await process.wait()
