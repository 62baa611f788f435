"""Containers for tests: podman from Debian, images as `make images` builds them, a DPU on a pod network."""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import fakes_debian as debian

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PACKAGES = (
    *("podman", "buildah", "runc", "netavark", "aardvark-dns", "conmon", "catatonit", "iptables", "nftables"),
    *("mmdebstrap", "golang-github-containers-common", "ca-certificates", "openssl"),
)
#: crun refuses mixed control groups, and limits above the machine's own fail.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
compat_api_enforce_docker_hub = false
"""
AGENT, RUNNER = 10_001, 10_002
PORTS = {"scheduler": 47311, "logs": 47312, "codeship": 47313, "archive": 47314}
SHARED = {
    "DPU_TOKENS_FILE": "/secrets/tokens.toml",
    "DPU_TLS_CERTIFICATE": "/secrets/tls.crt",
    "DPU_TLS_KEY": "/secrets/tls.key",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/secrets/ca.crt",
    "DPU_SCHEDULER": "scheduler:47311",
    "DPU_LOGS": "logs:47312",
    "DPU_CODE": "codeship:47313",
    "DPU_ARCHIVE": "archive:47314",
}
#: Role and project by who has a token.
PEOPLE = {"ann": ("user", "default"), "worker": ("worker", "*"), "outbox": ("service", "*")}
#: Nothing that a restricted pod has not either.
RESTRICTED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp:size=1g")


def lacking():
    """Return why no containers run here; empty where they do. Installs what is missing where it may."""
    if os.geteuid() != 0:
        return "containers need root here"
    if why := debian.lacking("podman", *PACKAGES):
        return why
    return _unable()


def _unable():
    """Return why podman runs no container on a network of its own here; empty where it does."""
    trial = f"dpu-trial-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(Path(folder) / "init.tar", "w") as tar:
            # Linked statically: it needs nothing beside it.
            tar.add(shutil.which("catatonit"), "catatonit")
        commands = (
            ("network", "create", trial),
            ("import", "--quiet", f"{folder}/init.tar", f"localhost/{trial}"),
            ("run", "--rm", f"--network={trial}", f"localhost/{trial}", "/catatonit", "--version"),
        )
        try:
            for command in commands:
                done = _tried("podman", *command)
                if done.returncode:
                    return f"podman cannot {command[0]} here: {done.stderr.strip()[-300:]}"
        finally:
            _tried("podman", "rmi", "--force", f"localhost/{trial}")
            _tried("podman", "network", "rm", "--force", trial)
    return ""


def _tried(*command):
    return subprocess.run(command, check=False, capture_output=True, text=True)


def mounted():
    """Return what podman has mounted beside its containers."""
    places = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {place for place in places if place.startswith(("/run/netns", "/var/lib/containers"))}


def unmount(places):
    """Take away what is mounted at some places."""
    for place in sorted(places, reverse=True):
        _tried("umount", place)


def podman(*arguments, check=True):
    """Return what a command of podman prints."""
    done = _tried("podman", *map(str, arguments))
    assert done.returncode == 0 or not check, f"podman {' '.join(map(str, arguments))}: {done.stderr}{done.stdout}"
    return done.stdout.strip()


def make_base():
    """Have an image under the name that the Dockerfile begins with, from a registry or from Debian's packages."""
    name = next(line[9:] for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("ARG BASE="))
    if _tried("podman", "image", "exists", name).returncode:
        subprocess.run([DEPLOY / "base" / "make.sh", name], check=True)
    return name


def build(*images, **environment):
    """Build images by the script that `make images` runs; return their names."""
    subprocess.run([DEPLOY / "images.sh", *images], check=True, env={**os.environ, "ENGINE": "podman", **environment})
    version = next(
        line.split('"')[1] for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version")
    )
    return [f"localhost/dpu/{image}:{version}" for image in images]


def inspect(image):
    """Return what podman knows of an image."""
    return json.loads(podman("image", "inspect", image))[0]


@dataclass
class Pods:
    """A DPU in containers: each service one, the worker two, on a network of their own."""

    folder: Path
    control: str
    worker: str
    name: str = field(default_factory=lambda: f"dpu-test-{os.getpid()}")
    names: list = field(default_factory=list)

    def __enter__(self):
        podman("network", "create", self.name)
        self._make_secrets()
        for service in ("archive", "logs", "codeship", "scheduler"):
            self._start_service(service)
        self._start_worker()
        return self

    def __exit__(self, *_):
        podman("rm", "--force", "--time=0", *[self._container(name) for name in self.names], check=False)
        podman("network", "rm", "--force", self.name, check=False)

    def _container(self, name):
        return f"{self.name}-{name}"

    def _make_secrets(self):
        secrets = self.folder / "secrets"
        subprocess.run([DEPLOY / "certificates.sh", secrets, *PORTS], check=True)
        rows = []
        for user, (role, project) in PEOPLE.items():
            command = ("run", "--rm", self.control, "token", user, "--role", role, "--project", project)
            made = _tried("podman", *command)
            (secrets / f"{user}.token").write_text(made.stdout)
            rows.append(made.stderr)
        (secrets / "tokens.toml").write_text("".join(rows))
        (secrets / "config.toml").write_text(
            'default = "pods"\nusername = "ann"\n[dpus.pods]\naddress = "scheduler:47311"\ntoken_file = "ann.token"\n'
        )
        for file in secrets.iterdir():
            file.chmod(0o644)

    def _start_service(self, service):
        image = self.worker if service == "archive" else self.control
        settings = {"DPU_LISTEN": f"0.0.0.0:{PORTS[service]}", "DPU_NAME": "pods"} | _token("outbox")
        state = self._folder(f"state-{service}", AGENT, 0o700)
        network = (f"--network={self.name}", f"--network-alias={service}")
        self._run(service, image, [service], settings, mounts=[f"{state}:/state", self._secrets], options=network)

    def _start_worker(self):
        """Start an agent and a runner as a pod has them: shared folders, another uid each, secrets for the agent."""
        state, code, frames, tasks = (
            self._folder(f"worker-{name}", AGENT, 0o2770) for name in ("state", "code", "frames", "tasks")
        )
        settings = _token("worker") | {
            "DPU_WORKER_RUNNER": "/state/tasks",
            "DPU_WORKER_SLOTS": "2",
            "DPU_WORKER_MEMORY_MIB": "3000",
        }
        tree = [f"{state}:/state", f"{code}:/state/code", f"{frames}:/state/frames", f"{tasks}:/state/tasks"]
        network = [f"--network={self.name}"]
        self._run("agent", self.worker, ["worker"], settings, mounts=[*tree, self._secrets], options=network)
        shown = [f"{code}:/state/code:ro", f"{frames}:/state/frames:ro", f"{tasks}:/state/tasks"]
        network = [f"--network=container:{self._container('agent')}", f"--user={RUNNER}:{AGENT}"]
        self._run(
            "runner",
            self.worker,
            ["-m", "dpud.worker.nursery", "/state/tasks"],
            {},
            mounts=shown,
            options=[*network, "--entrypoint=python"],
        )

    def _folder(self, name, owner, mode):
        folder = self.folder / name
        folder.mkdir()
        os.chown(folder, owner, AGENT)
        folder.chmod(mode)
        return folder

    @property
    def _secrets(self):
        return f"{self.folder / 'secrets'}:/secrets:ro"

    def _run(self, name, image, command, settings, *, mounts, options):
        self.names.append(name)
        values = {} if name == "runner" else {**SHARED, "DPU_STATE": "/state", **settings}
        podman(
            *("run", "--detach", f"--name={self._container(name)}", *RESTRICTED, *options),
            *(f"--volume={mount}" for mount in mounts),
            *(f"--env={key}={value}" for key, value in values.items()),
            *(image, *command),
        )

    def client(self, script, *, check=True):
        """Run a shell script as a user has it, in a container of its own; return what it prints."""
        return podman(
            *("run", "--rm", *RESTRICTED, f"--network={self.name}", f"--volume={self._secrets}", "--workdir=/tmp"),
            *("--env=DPU_CONFIG=/secrets/config.toml", "--env=GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=/secrets/ca.crt"),
            *("--entrypoint=sh", self.worker, "-euc", script),
            check=check,
        )

    def kill(self, name):
        """Kill one container and start it again."""
        podman("kill", "--signal=KILL", self._container(name))
        self._until_exited(name)
        podman("start", self._container(name))

    def _until_exited(self, name):
        deadline = time.monotonic() + 60
        while (state := podman("inspect", "--format={{.State.Status}}", self._container(name))) != "exited":
            assert time.monotonic() < deadline, f"{name} is {state} after it was killed"
            time.sleep(0.1)

    def logs(self):
        """Return the last lines of all of them."""
        return "\n".join(
            f"== {name}\n" + podman("logs", "--tail=15", self._container(name), check=False) for name in self.names
        )


def _token(owner):
    return {"DPU_TOKEN_FILE": f"/secrets/{owner}.token"}
