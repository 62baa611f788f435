"""What the pages for operators say to type, typed: what it makes is what production, and a pilot, ask for."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dpud.hosting.caller import Role
from dpud.hosting.settings import Environment
from dpud.hosting.tokens import Tokens
from dpud.worker.main import Settings
from fakes_kubernetes import ROOT, containers, settings_of, templates

pytestmark = pytest.mark.timeout(600)
#: Without a cluster: what would be made is printed.
DRY = 'kubectl() { command kubectl "$@" --dry-run=client --output=yaml; echo ---; }\n'
#: Where there is no Slurm: what it is given is printed.
NO_SLURM = 'sbatch() { echo "$@"; }\n'
WHO = {"ann": Role.USER, "worker": Role.WORKER, "outbox": Role.SERVICE}


def typed(page, having, before, folder):
    """Type the block of a page that has some words into a shell in `folder`; return what it prints."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "docs/how-to" / page).read_text(), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if having in block)
    # Nobody's cluster.
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "KUBECONFIG": "/dev/null",
    }
    done = subprocess.run(
        ["bash", "-euc", before + block], cwd=folder, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def operator(tmp_path_factory):
    """Return the folder where somebody has typed what the page about Kubernetes says, and what that has made."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    folder = tmp_path_factory.mktemp("operator")
    return folder, list(yaml.safe_load_all(typed("deploy-on-kubernetes.md", "create secret", DRY, folder)))


@pytest.mark.parametrize("file", WHO)
async def test_tokens_of_the_page_are_of_whom_they_should_be(operator, file):
    folder, _ = operator
    token = (folder / f"{file}.token").read_text().strip()
    identity = await Tokens.read(folder / "tokens.toml").identify(f"Bearer {token}")
    assert (identity.user, identity.roles) == (file, {WHO[file]})


def test_secrets_of_the_page_hold_what_production_looks_for(operator):
    _, made = operator
    secrets = {each["metadata"]["name"]: set(each["data"]) for each in made if each and each["kind"] == "Secret"}
    asked = {}
    for _owner, template in templates("production"):
        for each in containers(template):
            for secret, file in looked_for(template, each):
                asked.setdefault(secret, set()).add(file)
    assert {secret: asked[secret] for secret in secrets} == secrets


def looked_for(template, container):
    """Yield the secrets that a container mounts, each with a file that its settings tell it to find there."""
    volumes = {each["name"]: each.get("secret", {}).get("secretName") for each in template["spec"]["volumes"]}
    told = settings_of("production", container).values()
    for mount in container["volumeMounts"]:
        secret = volumes.get(mount["name"])
        for path in told:
            if secret and path.startswith(f"{mount['mountPath']}/"):
                yield secret, path.removeprefix(f"{mount['mountPath']}/")


def test_a_pilot_understands_the_settings_of_the_page(tmp_path):
    (tmp_path / ".config" / "dpu").mkdir(parents=True)
    said = typed("deploy-on-slurm.md", "sbatch", NO_SLURM, tmp_path)
    assert said.split()[-1] == "deploy/slurm/worker.sbatch"
    assert (ROOT / said.split()[-1]).exists()
    lines = (tmp_path / ".config" / "dpu" / "worker.env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines)
    Path(values["DPU_TOKEN_FILE"]).write_text("secret")
    settings = Settings.read(Environment({**values, "DPU_STATE": str(tmp_path / "state")}))
    assert settings.scheduler.address.text == "dpu.example.org:47311"
