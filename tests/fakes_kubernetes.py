"""Rendered overlays, and tools that check them without a cluster, installed when a test first asks for them."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
#: Kept between runs.
TOOLS = ROOT / "build" / "kubernetes"
CHECKERS = ("kubernetes-validate==1.37.*", "checkov==3.3.*")
#: Types of resources that no cluster has by itself.
MODELS = ("@kubernetes-models/keda@2", "@kubernetes-models/cert-manager@6", "@kubernetes-models/prometheus-operator@6")
DIGEST = "sha256:" + "0123456789abcdef" * 4


@cache
def rendered(overlay):
    """Return the resources of an overlay; production runs images of a made-up digest."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here")
    if overlay == "production":
        return _parsed(_production(kubectl))
    return _parsed(_kustomized(kubectl, ROOT / "k8s/overlays" / overlay))


def _kustomized(kubectl, folder):
    return subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True).stdout


def _production(kubectl):
    """Render production in a copy: what it runs is written beside it."""
    copy = TOOLS / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for part in ("k8s", "deploy"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("digests"))
    images = [f"registry.example.org/dpu/{target}@{DIGEST}" for target in ("control", "worker")]
    subprocess.run([copy / "deploy/digests.sh", *images], check=True)
    return _kustomized(kubectl, copy / "k8s/overlays/production")


def _parsed(text):
    return [document for document in yaml.safe_load_all(text) if document]


@cache
def python_tools(*packages):
    """Return the folder of the programs of packages of PyPI, in an environment of its own; or skip with why."""
    place = TOOLS / packages[0].partition("=")[0]
    wanted = place / "installed"
    if not wanted.exists() or wanted.read_text() != str(packages):
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        command = [place / "bin/pip", "install", "-q", *packages]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{packages} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        wanted.write_text(str(packages))
    return place / "bin"


@cache
def node_models():
    """Return the folder of npm's types, or skip with the reason."""
    place = TOOLS / "models"
    if shutil.which("npm") is None:
        pytest.skip("no npm here")
    wanted = place / "installed"
    if not wanted.exists() or wanted.read_text() != str(MODELS):
        place.mkdir(parents=True, exist_ok=True)
        (place / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *MODELS]
        done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{MODELS} cannot be installed: {done.stderr.strip()[-300:]}")
        wanted.write_text(str(MODELS))
    return place


def of_kind(overlay, *kinds):
    """Return the resources of some kinds."""
    return [each for each in rendered(overlay) if each["kind"] in kinds]


def name(resource):
    """Return kind and name, for a report."""
    return f"{resource['kind']} {resource['metadata']['name']}"


def templates(overlay):
    """Return (name, pod template) of everything that makes pods of ours."""
    found = [(name(each), each["spec"]["template"]) for each in of_kind(overlay, "StatefulSet", "Deployment")]
    return found + [(name(each), each["spec"]["jobTargetRef"]["template"]) for each in of_kind(overlay, "ScaledJob")]


def containers(template):
    """Return all containers of a pod, sidecars too."""
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def settings_of(overlay, container):
    """Return what a container finds in its environment."""
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(overlay, "ConfigMap")}
    values = {}
    for source in container.get("envFrom", ()):
        values |= maps[source["configMapRef"]["name"]]
    for each in container.get("env", ()):
        values[each["name"]] = each.get("value", "given")
    return values


def selects(selector, labels):
    """Return whether a label selector selects what has these labels."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(_matches(each, labels) for each in selector.get("matchExpressions", ()))


def _matches(expression, labels):
    assert expression["operator"] == "In", expression
    return labels.get(expression["key"]) in expression["values"]
