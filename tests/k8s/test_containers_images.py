"""The images, built from this checkout: what they hold, how large they are, and that they are always the same."""

import errno
import json
import os
import time

import pytest

from fakes_containers import RESTRICTED, build, inspect, podman

pytestmark = pytest.mark.timeout(1800)
#: What the image of the control services may add to its base.
CONTROL_BYTES = 130_000_000


def in_image(image, *command):
    return podman("run", "--rm", "--network=none", *RESTRICTED, f"--entrypoint={command[0]}", image, *command[1:])


def test_control_holds_no_astronomy_and_no_prompt(images):
    control, _ = images
    installed = json.loads(
        in_image(
            control,
            "python",
            "-c",
            "import importlib.util, json; print(json.dumps([name for name in "
            "('numpy', 'scipy', 'astropy', 'numba', 'sep', 'dpu_recipes', 'IPython', 'rich', 'dpud') "
            "if importlib.util.find_spec(name)]))",
        )
    )
    assert installed == ["dpud"]


#: Loads what control services load, and calls what is beside the parts that the image leaves out.
WHOLE = """
import importlib, pkgutil
import dpud, jwt, zstandard
from cryptography.hazmat.primitives.asymmetric import rsa
from dpu import tracing
for each in pkgutil.walk_packages(dpud.__path__, "dpud."):
    if not each.name.startswith(("dpud.archive", "dpud.worker", "dpud.embedded")) and "migrations" not in each.name:
        importlib.import_module(each.name)
key = rsa.generate_private_key(65537, 2048)
assert jwt.decode(jwt.encode({"sub": "ann"}, key, "RS256"), key.public_key(), ["RS256"]) == {"sub": "ann"}
assert zstandard.decompress(zstandard.compress(b"code")) == b"code"
tracing.set_up("trial", {tracing.ENDPOINT: "http://127.0.0.1:1"})
print("whole")
"""


def test_nothing_misses_what_control_leaves_out(images):
    assert in_image(images[0], "python", "-c", WHOLE).endswith("whole")


def test_control_adds_little_to_its_base(images, base):
    added = inspect(images[0])["Size"] - inspect(base)["Size"]
    print(f"control adds {added / 1e6:.0f} MB, worker {(inspect(images[1])['Size'] - inspect(base)['Size']) / 1e6:.0f}")
    assert added <= CONTROL_BYTES


def test_both_run_as_nobody_on_a_file_system_that_cannot_be_written(images):
    for image in images:
        assert inspect(image)["Config"]["User"] == "10001:10001"
        assert in_image(image, "id", "-u") == "10001"
        assert in_image(image, "dpud", "--version").startswith("dpud ")
        refused = in_image(image, "sh", "-c", "touch /opt/dpu/x 2>&1 || echo refused")
        assert refused.endswith("refused")


def test_nothing_is_compiled_when_a_service_starts(images):
    program = (
        "from importlib.util import cache_from_source as made; from pathlib import Path\n"
        "print([str(file) for file in Path('/opt/dpu/lib').rglob('*.py') if not Path(made(file)).exists()])"
    )
    for image in images:
        assert in_image(image, "python", "-c", program) == "[]"


def test_the_worker_has_recipes_and_the_prompt(images):
    described = json.loads(in_image(images[1], "python", "-m", "dpu_recipes", "describe"))
    assert "ReadNoise" in [sequence["name"] for sequence in described["sequences"]]
    assert in_image(images[1], "awe", "--version")


def test_a_service_that_is_told_to_end_while_it_starts_ends_then(images, tmp_path):
    """Process 1 ignores what it has not said that it heeds. This one waits for its token, which comes by a pipe."""
    tmp_path.chmod(0o755)
    os.mkfifo(tmp_path / "token")
    (tmp_path / "token").chmod(0o644)
    others = {f"DPU_{name}": "unix:/nowhere" for name in ("SCHEDULER", "LOGS", "ARCHIVE")}
    own = {"DPU_NAME": "trial", "DPU_LISTEN": "127.0.0.1:47315", "DPU_WEB_KEY": "k", "DPU_TOKEN_FILE": "/given/token"}
    settings = [f"--env={key}={value}" for key, value in (own | others).items()]
    mounted = f"--volume={tmp_path}:/given:ro"
    name = podman("run", "--detach", "--network=none", *RESTRICTED, *settings, mounted, images[0], "web")
    try:
        writing = until_read(tmp_path / "token", name)
        podman("stop", "--time=300", name)
        os.close(writing)
        assert podman("inspect", "--format={{.State.ExitCode}}", name) == "0", podman("logs", name)
    finally:
        podman("rm", "--force", name)


def until_read(pipe, name):
    """Return the writing end of a pipe once the container of a name has opened its other one."""
    deadline = time.monotonic() + 600
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        state = podman("inspect", "--format={{.State.Status}}", name)
        assert state != "exited", podman("logs", name)
        assert time.monotonic() < deadline, f"{name} is {state}, and nobody reads {pipe}"
        time.sleep(0.1)


@pytest.mark.parametrize("index", [0, 1])
def test_what_is_in_an_image_is_listed(images, index):
    bill = json.loads(in_image(images[index], "cat", "/opt/dpu/sbom.spdx.json"))
    names = {package["name"] for package in bill["packages"]}
    assert bill["spdxVersion"] == "SPDX-2.3"
    assert {"dpu", "grpcio", "sqlalchemy", "libc6"} <= names
    assert ("numpy" in names) == (index == 1)


def test_the_same_commit_gives_the_same_layers(images):
    """The environment of `control` is made once more from nothing."""
    first = inspect(images[0])["RootFS"]["Layers"]
    (again,) = build("control", OPTIONS="--no-cache")
    assert inspect(again)["RootFS"]["Layers"] == first
