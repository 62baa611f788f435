"""The file that starts a whole DPU on one machine: compose understands it, and our services understand what it says."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from dpud.hosting.settings import Environment
from fakes_compose import services
from fakes_kubernetes import ROOT

#: Tools are installed when they are asked for first.
pytestmark = pytest.mark.timeout(1800)
OURS = ("archive", "logs", "codeship", "scheduler", "worker", "web")


def test_compose_understands_every_key():
    assert set(OURS) < services().keys()
    assert services().keys() - set(OURS) == {"prepare", "database", "runner", "prometheus", "grafana"}


@pytest.mark.parametrize("name", OURS)
def test_a_service_understands_its_settings(name, tmp_path):
    (tmp_path / "token").write_text("secret")
    settings = {key: str(value) for key, value in services()[name]["environment"].items()}
    known = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs/reference/services.md").read_text()))
    assert {key for key in settings if key not in known and not key.startswith("PG")} == set()
    module = importlib.import_module(f"dpud.{name}.main")
    module.Settings.read(Environment({**settings, "DPU_TOKEN_FILE": str(tmp_path / "token")}))


@pytest.mark.parametrize("name", [*OURS, "runner"])
def test_ours_are_restricted_and_see_what_they_are_told_of(name):
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    mounted = tuple(volume["target"] for volume in service["volumes"])
    told = [value for value in service.get("environment", {}).values() if str(value).startswith("/")]
    assert all(value.startswith(mounted) for value in told)


def test_the_runner_has_no_network_no_secret_and_another_user():
    runner = services()["runner"]
    assert runner["network_mode"] == "none"
    assert runner["user"] == "10002:10001"
    assert "environment" not in runner
    assert {volume["source"]: volume.get("read_only", False) for volume in runner["volumes"]} == {
        "worker-code": True,
        "worker-frames": True,
        "worker-tasks": False,
    }


def test_images_have_versions():
    with (ROOT / "pyproject.toml").open("rb") as file:
        own = tomllib.load(file)["project"]["version"]
    for name, service in services().items():
        image, _, version = service["image"].rpartition(":")
        assert version == own if image.startswith("dpu/") else re.search(r"\d", version), name


def test_prometheus_scrapes_every_service_and_grafana_finds_the_dashboards():
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())["scrape_configs"]
    (target,) = job["dns_sd_configs"]
    assert set(OURS) <= set(target["names"])
    ports = {services()[name]["environment"]["DPU_METRICS_LISTEN"].rpartition(":")[2] for name in OURS}
    assert ports == {str(target["port"])}
    mounts = {volume["target"]: Path(volume["source"]) for volume in services()["grafana"]["volumes"]}
    provider = yaml.safe_load((ROOT / "deploy/compose/dashboards.yaml").read_text())["providers"][0]
    assert list(mounts[Path(provider["options"]["path"]).as_posix()].glob("*.json"))


def test_files_that_are_mounted_are_there():
    bound = [
        Path(volume["source"]) for each in services().values() for volume in each["volumes"] if volume["type"] == "bind"
    ]
    assert bound
    assert [path for path in bound if not path.exists()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_secrets_are_made_once_and_are_their_owners_alone(tmp_path):
    """By the script that compose runs first, with its folders elsewhere."""
    secrets, volumes = tmp_path / "secrets", tmp_path / "volumes"
    secrets.mkdir()
    (volumes / "scheduler").mkdir(parents=True)
    script = (ROOT / "deploy/compose/prepare.sh").read_text()
    for folder, there in (("/secrets", secrets), ("/volumes", volumes)):
        script = script.replace(folder, str(there))
    script = script.replace("/certificates.sh", str(ROOT / "deploy/certificates.sh"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = []
    for _ in range(2):
        subprocess.run(["bash", "-c", script], check=True, env={"PATH": path, "DPU_HOST": "dpu.example.org"})
        made.append({file.name: file.read_bytes() for file in secrets.iterdir()})
    assert made[0] == made[1]
    rows = tomllib.loads(made[0]["tokens.toml"].decode())["token"]
    assert [row["roles"] for row in rows] == [["user", "operator"], ["worker"], ["service"]]
    assert made[0]["pgpass"].strip().endswith(made[0]["database.password"])
    modes = {file.name: (file.stat().st_uid, file.stat().st_mode & 0o777) for file in secrets.iterdir()}
    assert modes["ca.key"] == (0, 0o600)
    assert modes["pgpass"] == (10_001, 0o600)
    assert all(mode & 0o007 == 0 for name, (_, mode) in modes.items() if name.endswith((".token", ".toml", ".key")))
    assert (volumes / "scheduler").stat().st_uid == 10_001
