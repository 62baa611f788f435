"""Dashboards, alerts and the pages about them agree with the code and with each other."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fakes_prometheus import ALERTS, BOARDS, METRIC, RULES, asked, documented, program

ROOT = Path(__file__).parents[2]
CASES = yaml.safe_load(ALERTS.with_name("alerts.test.yaml").read_text())["tests"]

#: Prometheus is installed when it is asked for first.
pytestmark = pytest.mark.timeout(1800)


@pytest.mark.parametrize("path", ["deploy/grafana/dashboards.py", "deploy/prometheus/rules.py"])
def test_what_is_generated_is_what_its_script_writes(path):
    for file, text in runpy.run_path(str(ROOT / path))["files"]().items():
        assert file.read_text() == text, f"{file} is not what {path} writes: make dashboards"


def test_there_are_the_five_dashboards():
    titles = {json.loads(board.read_text())["title"].removeprefix("DPU: ") for board in BOARDS}
    assert titles == {"Queue", "Workers", "Logs and code", "Archive", "Science quality"}


def test_every_metric_that_is_asked_for_is_in_the_reference():
    known = documented()
    for query in [*(query for _, query in asked()), *(rule["expr"] for rule in RULES)]:
        for name in METRIC.findall(re.sub("'[^']*'", "", query)):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            assert name in known or known.get(base) == "histogram", f"{name} in {query!r} is not in metrics.md"


def test_every_rule_holds_its_syntax():
    for command in (["check", "rules", ALERTS], ["check", "config", ALERTS.with_name("prometheus.yaml")]):
        subprocess.run([program("promtool"), *command], check=True)


def test_every_alert_fires_in_its_test():
    subprocess.run([program("promtool"), "test", "rules", ALERTS.with_name("alerts.test.yaml")], check=True)
    tested = [each for case in CASES for each in case["alert_rule_test"]]
    fire = {each["alertname"] for each in tested if each["exp_alerts"]}
    keep_quiet = {each["alertname"] for each in tested if not each["exp_alerts"]}
    assert fire == keep_quiet == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_runbook(rule):
    page = ROOT / rule["annotations"]["runbook"]
    assert page.exists()
    index = (page.parent / "README.md").read_text()
    assert re.search(rf"`{rule['alert']}`.*\({page.name}\)", index), (
        f"{rule['alert']} is not in docs/runbooks/README.md"
    )


def rendered(folder, *resources):
    """Return what kustomize makes of the component and of other parts of the repository, by their kinds."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here")
    root = Path("../" * len(folder.resolve().parts[1:])) / ROOT.relative_to("/")
    named = "".join(f"  - {root / resource}\n" for resource in resources)
    component = f"components:\n  - {root / 'k8s/components/monitoring'}\n"
    (folder / "kustomization.yaml").write_text(f"resources:\n{named}{component}" if resources else component)
    text = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True).stdout
    kinds = {}
    for document in yaml.safe_load_all(text):
        kinds.setdefault(document["kind"], []).append(document)
    return kinds


def test_the_component_renders_with_every_rule_and_dashboard(tmp_path):
    kinds = rendered(tmp_path)
    assert set(kinds) == {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}
    assert kinds["PrometheusRule"][0]["spec"]["groups"][0]["rules"] == RULES
    assert set(kinds["ConfigMap"][0]["data"]) == {board.name for board in BOARDS}


def selected(monitor, things, labels_of):
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    return {thing["metadata"]["name"] for thing in things if wanted <= labels_of(thing).items()}


def test_the_monitors_select_every_service_and_worker_of_the_base(tmp_path):
    kinds = rendered(tmp_path, "k8s/base")
    services = selected(kinds["ServiceMonitor"][0], kinds["Service"], lambda thing: thing["metadata"]["labels"])
    assert services == {f"dpu-{name}" for name in ("archive", "codeship", "logs", "scheduler", "web")}
    assert all("metrics" in {port["name"] for port in each["spec"]["ports"]} for each in kinds["Service"])
    workers = [each for each in kinds["Deployment"] if each["metadata"]["name"] != "dpu-web"]
    of_pods = selected(kinds["PodMonitor"][0], workers, lambda thing: thing["spec"]["template"]["metadata"]["labels"])
    assert of_pods == {"dpu-worker-small"}
    pod = workers[0]["spec"]["template"]["spec"]
    ports = [
        port["name"] for each in (*pod.get("initContainers", []), *pod["containers"]) for port in each.get("ports", [])
    ]
    assert "metrics" in ports
