"""The suites of hostile and of unlucky tasks, with their worker in a real restricted container.

The same files that run beside the services run here: as nobody, without a capability, with no new privileges, on a root
that cannot be written, and without a network.
"""

import re
import shutil
from importlib.metadata import distribution

import pytest

from fakes_containers import RESTRICTED, ROOT, podman

pytestmark = pytest.mark.timeout(1800)
SUITES = ("test_worker_isolation.py", "test_worker_tasks.py")
#: What the suites need, and no image of ours has.
TOOLS = ("pytest", "pluggy", "iniconfig", "pytest-asyncio", "pytest-timeout", "pygments")
#: Says what the process is that runs the suites: its capabilities and its privileges to gain, by the kernel's word.
WHO = """
import os, re
status = open("/proc/self/status").read()
print(os.getuid(), *re.findall(r"(?:CapBnd|CapEff|NoNewPrivs):\\s*(\\w+)", status))
open("/tmp/made", "w")
try:
    open("/opt/made", "w")
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture(scope="module")
def inside(images, tmp_path_factory):
    """Return what runs Python in the image of workers, with the tests and what runs them to read."""
    tools = tmp_path_factory.mktemp("tools")
    for name in TOOLS:
        for file in distribution(name).files or ():
            if ".." not in file.parts:
                (tools / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), tools / file)
    tools.chmod(0o755)
    shown = [
        f"{tools}:/tools:ro",
        f"{ROOT / 'tests'}:/src/tests:ro",
        f"{ROOT / 'pyproject.toml'}:/src/pyproject.toml:ro",
    ]

    def run(*arguments, check=True):
        return podman(
            *("run", "--rm", "--init", "--network=none", *RESTRICTED, "--workdir=/src", "--env=PYTHONPATH=/tools"),
            *(f"--volume={each}" for each in shown),
            *("--entrypoint=python", images[1], *arguments),
            check=check,
        )

    return run


def test_the_container_is_what_a_restricted_pod_is(inside):
    nothing = "0" * 16
    assert inside("-c", WHO).splitlines() == [f"10001 {nothing} {nothing} 1", "Read-only file system"]


@pytest.mark.parametrize("suite", SUITES)
def test_a_worker_in_a_restricted_container_passes_the_suite(inside, suite):
    said = inside("-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", f"tests/cluster/{suite}", check=False)
    assert re.search(r"^\d+ passed", said, re.MULTILINE), said
    assert not re.search(r"\d+ (failed|error)", said), said
    # What only root can do is not tried here; all else is.
    assert set(re.findall(r"^SKIPPED .*?: (.*)", said, re.MULTILINE)) <= {"only root can become others"}, said
