"""Every overlay renders, and is what a cluster, its operators and its policies accept."""

import importlib
import json
import re
import shutil
import subprocess

import pytest

from dpud.health import STILL
from dpud.hosting.settings import Environment
from fakes_kubernetes import (
    CHECKERS,
    DIGEST,
    ROOT,
    containers,
    name,
    node_models,
    of_kind,
    python_tools,
    rendered,
    selects,
    settings_of,
    templates,
)

#: Tools are installed when they are asked for first.
pytestmark = pytest.mark.timeout(1800)
OVERLAYS = ["dev", "production"]
#: Resources that come with operators, by the start of their apiVersion.
OPERATORS = ("keda.sh", "cert-manager.io", "monitoring.coreos.com", "postgresql.cnpg.io")
#: What npm has types for.
TYPED = OPERATORS[:3]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_all_services_and_workers(overlay):
    assert {"StatefulSet dpu-scheduler", "StatefulSet dpu-logs", "StatefulSet dpu-codeship"} <= set(
        map(name, rendered(overlay))
    )
    assert {"StatefulSet dpu-archive", "Deployment dpu-worker-small", "Deployment dpu-web"} <= set(
        map(name, rendered(overlay))
    )


def test_production_refuses_to_render_while_a_digest_is_unset():
    rendered("production")
    assert not (ROOT / "k8s/overlays/production/digests").exists()
    command = ["kubectl", "kustomize", ROOT / "k8s/overlays/production"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "digests" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "images",
    [
        (f"r.example.org/dpu/control@{DIGEST}",),
        (f"r.example.org/dpu/control@{DIGEST}", "r.example.org/dpu/worker:latest"),
        (f"r.example.org/dpu/control@{DIGEST}", "r.example.org/dpu/worker@sha256:0"),
        (f"r.example.org/dpu/worker@{DIGEST}", f"r.example.org/dpu/control@{DIGEST}"),
    ],
)
def test_what_is_no_digest_is_not_written(tmp_path, images):
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    (tmp_path / "k8s/overlays/production").mkdir(parents=True)
    done = subprocess.run([tmp_path / "deploy/digests.sh", *images], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not list((tmp_path / "k8s/overlays/production").iterdir())


def test_production_runs_images_by_digest():
    images = {each["image"] for _, template in templates("production") for each in containers(template)}
    assert images == {f"registry.example.org/dpu/{target}@{DIGEST}" for target in ("control", "worker")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_cluster_knows_every_field(overlay, tmp_path):
    file = tmp_path / "all.yaml"
    own = [each for each in rendered(overlay) if not each["apiVersion"].startswith(OPERATORS)]
    file.write_text("\n---\n".join(map(json.dumps, own)))
    command = [python_tools(*CHECKERS) / "kubernetes-validate", "--strict", "-k", "1.36", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_operators_know_every_field(tmp_path):
    typed = [each for each in rendered("production") if each["apiVersion"].startswith(TYPED)]
    assert {each["kind"] for each in typed} >= {"ScaledObject", "ScaledJob", "TriggerAuthentication", "Certificate"}
    (tmp_path / "typed.json").write_text(json.dumps(typed))
    place = node_models()
    script = place / "check.mjs"
    script.write_text(
        """
        import { readFileSync } from "node:fs";
        const packages = {"keda.sh": "keda", "cert-manager.io": "cert-manager",
                          "monitoring.coreos.com": "prometheus-operator"};
        let failed = 0;
        for (const resource of JSON.parse(readFileSync(process.argv[2]))) {
          const [group, version] = resource.apiVersion.split("/");
          const {[resource.kind]: Kind} = await import(`@kubernetes-models/${packages[group]}/${group}/${version}`);
          try { new Kind(resource).validate(); }
          catch (error) { failed += 1; console.log(resource.kind, resource.metadata.name, error.message); }
        }
        process.exit(failed ? 1 : 0);
        """
    )
    command = ["node", script, tmp_path / "typed.json"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_policies_find_nothing_that_is_not_explained(overlay, tmp_path):
    """A finding is explained by an annotation that names the check and says why it does not apply."""
    file = tmp_path / f"{overlay}.yaml"
    file.write_text("\n---\n".join(map(json.dumps, _with_pods(overlay))))
    command = [
        python_tools(*CHECKERS) / "checkov",
        "-f",
        file,
        "--framework",
        "kubernetes",
        "--compact",
        "--quiet",
        "--skip-download",
    ]
    done = subprocess.run([*command, "-o", "json"], capture_output=True, text=True, check=False, cwd=tmp_path)
    report = json.loads(done.stdout)
    failed = report["results"]["failed_checks"]
    assert [f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in failed] == []
    assert report["summary"]["parsing_errors"] == 0
    # Each resource was looked at, from more than one side.
    assert report["summary"]["passed"] > len(rendered(overlay))


def _with_pods(overlay):
    """Return all resources, and of each ScaledJob the job that it makes: policies know jobs."""
    jobs = [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {**each["metadata"], **_annotations(each)},
            "spec": each["spec"]["jobTargetRef"],
        }
        for each in of_kind(overlay, "ScaledJob")
    ]
    return [*rendered(overlay), *jobs]


def _annotations(scaled):
    return {"annotations": scaled["metadata"].get("annotations", {})}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_explained_finding_says_why(overlay):
    skips = {
        (name(each), key): value
        for each in rendered(overlay)
        for key, value in each["metadata"].get("annotations", {}).items()
        if key.startswith("checkov.io/skip")
    }
    assert all(re.fullmatch(r"CKV2?_K8S_\d+=.{20,}", value) for value in skips.values()), skips


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_select_pods_of_ours(overlay):
    labels = {owner: template["metadata"]["labels"] for owner, template in templates(overlay)}
    for each in of_kind(overlay, "StatefulSet", "Deployment"):
        assert selects(each["spec"]["selector"], labels[name(each)]), name(each)
        others = [own for owner, own in labels.items() if owner != name(each)]
        assert not any(selects(each["spec"]["selector"], own) for own in others), name(each)
    for each in of_kind(overlay, "Service"):
        assert any(selects({"matchLabels": each["spec"]["selector"]}, own) for own in labels.values()), name(each)
    for each in of_kind(overlay, "PodDisruptionBudget"):
        assert sum(selects(each["spec"]["selector"], own) for own in labels.values()) == 1, name(each)
    for each in of_kind(overlay, "NetworkPolicy"):
        assert any(selects(each["spec"]["podSelector"], own) for own in labels.values()), name(each)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_labels_are_texts_and_ports_have_names(overlay):
    for each in rendered(overlay):
        values = [*each["metadata"].get("labels", {}).values(), *each["metadata"].get("annotations", {}).values()]
        assert all(isinstance(value, str) for value in values), name(each)
    ports = {
        owner: {port["name"] for each in containers(template) for port in each.get("ports", ())}
        for owner, template in templates(overlay)
    }
    for each in of_kind(overlay, "Service"):
        kind = "Deployment" if name(each) == "Service dpu-web" else "StatefulSet"
        offered = ports[f"{kind} {each['spec']['selector']['app.kubernetes.io/name']}"]
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= offered, name(each)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_restricted(overlay):
    """By the rules of the Pod Security Standard `restricted`, and a root that cannot be written."""
    for owner, template in templates(overlay):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, owner
        assert spec["securityContext"]["runAsNonRoot"] is True, owner
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & spec.keys(), owner
        assert {kind for volume in spec.get("volumes", ()) for kind in volume} <= {"name", "emptyDir", "secret"}, owner
        for each in containers(template):
            own = each["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, owner
            assert own["readOnlyRootFilesystem"] is True, owner
            assert own["capabilities"] == {"drop": ["ALL"]}, owner
            assert each["resources"].keys() == {"requests", "limits"}, owner
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_runner_is_another_user_and_knows_no_secret(overlay):
    workers = [(owner, template) for owner, template in templates(overlay) if "worker" in owner]
    assert workers
    for owner, template in workers:
        runner, agent = containers(template)
        assert (runner["name"], runner["restartPolicy"], agent["name"]) == ("runner", "Always", "agent"), owner
        assert runner["securityContext"]["runAsUser"] != agent["securityContext"]["runAsUser"], owner
        assert not runner.keys() & {"env", "envFrom"}, owner
        secret = {volume["name"] for volume in template["spec"]["volumes"] if "secret" in volume}
        assert not secret & {mount["name"] for mount in runner["volumeMounts"]}, owner
        written = {mount["mountPath"] for mount in runner["volumeMounts"] if not mount.get("readOnly")}
        assert written == {"/state/tasks", "/tmp"}, owner  # noqa: S108 (the container's own)
        settings = settings_of(overlay, agent)
        grace = template["spec"]["terminationGracePeriodSeconds"]
        assert grace >= float(settings["DPU_WORKER_GRACE_S"]) + 30, owner
        limit = runner["resources"]["limits"]["memory"]
        mib = int(limit[:-2]) * {"Gi": 1024, "Mi": 1}[limit[-2:]]
        assert float(settings["DPU_WORKER_MEMORY_MIB"]) < mib, owner


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_understands_its_configuration(overlay, tmp_path):
    (tmp_path / "token").write_text("secret")
    known = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs/reference/services.md").read_text()))
    for owner, template in templates(overlay):
        container = template["spec"]["containers"][0]
        settings = settings_of(overlay, container)
        unknown = {key for key in settings if key not in known and not key.startswith(("AWS_", "PG"))}
        assert unknown == set(), owner
        service = importlib.import_module(f"dpud.{container['args'][0]}.main")
        service.Settings.read(Environment({**settings, "DPU_TOKEN_FILE": str(tmp_path / "token")}))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_files_that_a_service_is_told_of_are_mounted(overlay):
    for owner, template in templates(overlay):
        container = template["spec"]["containers"][0]
        mounted = tuple(mount["mountPath"] for mount in container["volumeMounts"])
        files = [value for value in settings_of(overlay, container).values() if value.startswith("/")]
        assert files, owner
        assert all(value.startswith(mounted) for value in files), (owner, files)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_addresses_lead_to_services_and_certificates_name_them(overlay):
    ports = {
        each["metadata"]["name"]: {p["port"] for p in each["spec"]["ports"]} for each in of_kind(overlay, "Service")
    }
    named = {dns for each in of_kind(overlay, "Certificate") for dns in each["spec"].get("dnsNames", ())}
    for owner, template in templates(overlay):
        settings = settings_of(overlay, template["spec"]["containers"][0])
        for key in {"DPU_SCHEDULER", "DPU_LOGS", "DPU_CODE", "DPU_ARCHIVE"} & settings.keys():
            host, _, port = settings[key].removeprefix("dns:///").partition(":")
            assert int(port) in ports[host], (owner, key)
            assert host in named, (owner, key)
    for each in of_kind(overlay, "ScaledObject", "ScaledJob"):
        (trigger,) = each["spec"]["triggers"]
        host, _, port = trigger["metadata"]["scalerAddress"].partition(":")
        assert int(port) in ports[host.split(".")[0]], name(each)
        assert host in named, name(each)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_named_and_never_written(overlay):
    assert of_kind(overlay, "Secret") == []
    page = (ROOT / "docs/how-to/deploy-on-kubernetes.md").read_text()
    made = {each["spec"]["secretName"] for each in of_kind(overlay, "Certificate")}
    asked = {
        volume["secret"]["secretName"]
        for _, template in templates(overlay)
        for volume in template["spec"].get("volumes", ())
        if "secret" in volume
    }
    assert {secret for secret in asked - made if f"`{secret}`" not in page} == set()


def test_the_classes_of_workers_divide_all_tasks():
    from dpud.scheduler.scaler import Trigger

    small, large = (
        Trigger.read(each["spec"]["triggers"][0]["metadata"])
        for each in of_kind("production", "ScaledObject", "ScaledJob")
    )
    if small.kind.above_mib > large.kind.above_mib:
        small, large = large, small
    assert small.kind.up_to_mib == large.kind.above_mib
    slots = {
        owner: settings_of("production", template["spec"]["containers"][0])
        for owner, template in templates("production")
    }
    assert int(slots["Deployment dpu-worker-small"]["DPU_WORKER_SLOTS"]) == small.slots
    assert int(slots["ScaledJob dpu-worker-large"]["DPU_WORKER_SLOTS"]) == large.slots
    memory = int(slots["Deployment dpu-worker-small"]["DPU_WORKER_MEMORY_MIB"])
    assert small.kind.up_to_mib <= memory / small.slots


def test_pilots_end_by_themselves_and_nobody_else_ends_them():
    (scaled,) = of_kind("production", "ScaledJob")
    template = scaled["spec"]["jobTargetRef"]["template"]
    assert float(settings_of("production", template["spec"]["containers"][0])["DPU_WORKER_IDLE_S"]) > 0
    assert scaled["spec"]["rollout"] == {"strategy": "gradual"}
    (budget,) = (
        each
        for each in of_kind("production", "PodDisruptionBudget")
        if selects(each["spec"]["selector"], template["metadata"]["labels"])
    )
    assert budget["spec"]["minAvailable"] > scaled["spec"]["maxReplicaCount"]


@pytest.mark.parametrize("owner", ["Deployment dpu-worker-small", "ScaledJob dpu-worker-large", "Deployment dpu-web"])
def test_workers_and_the_queue_page_reach_the_services_only(owner):
    labels = dict(templates("production"))[owner]["metadata"]["labels"]
    rules = [
        rule
        for each in of_kind("production", "NetworkPolicy")
        if selects(each["spec"]["podSelector"], labels) and "Egress" in each["spec"]["policyTypes"]
        for rule in each["spec"].get("egress", ())
    ]
    assert len(rules) == 2, "names, and services"
    names, services = sorted(rules, key=lambda rule: rule["ports"][0]["port"] == "grpc")
    assert {port["port"] for port in names["ports"]} == {53}
    (peer,) = services["to"]
    reached = {
        owner
        for owner, template in templates("production")
        if selects(peer["podSelector"], template["metadata"]["labels"])
    }
    assert reached == {f"StatefulSet dpu-{service}" for service in ("scheduler", "logs", "codeship", "archive")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_queue_page_is_asked_by_https_for_a_file_that_it_has(overlay):
    (container,) = containers(dict(templates(overlay))["Deployment dpu-web"])
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert (asked["scheme"], asked["path"]) == ("HTTPS", STILL), probe
        assert f"0.0.0.0:{ports[asked['port']]}" == settings_of(overlay, container)["DPU_LISTEN"], probe
    assert (ROOT / f"services/dpud/web{STILL}").exists()


def test_what_grows_is_in_a_bucket_in_production():
    settings = {
        owner: settings_of("production", containers(template)[0]) for owner, template in templates("production")
    }
    places = [
        settings["StatefulSet dpu-archive"]["DPU_FILES"],
        settings["StatefulSet dpu-codeship"]["DPU_CODE_BUCKET"],
        settings["StatefulSet dpu-logs"]["DPU_LOG_BUCKET"],
    ]
    assert all(place.startswith("s3://dpu/") for place in places)
    assert len(set(places)) == len(places), "none writes among another's"
    for service in ("archive", "codeship", "logs"):
        own = settings[f"StatefulSet dpu-{service}"]
        assert {"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= own.keys()
